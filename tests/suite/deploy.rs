//! `docs/deploy/`: what the manifests set is a whole configuration, and what alerts and charts ask for is exported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orderstream::config::{Config, Inputs, Purpose};
use serde::Deserialize as _;
use serde_json::Value;

use crate::harness::ingest::Service;
use crate::harness::redis::RedisServer;
use crate::harness::wire::get;

fn file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn load(purpose: Purpose, env: BTreeMap<String, String>) -> Config {
    let inputs = Inputs {
        flags: Arc::default(),
        env: Arc::new(env.into_iter().collect()),
    };
    let config = Config::load(purpose, inputs).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(config.unknown_names.is_empty(), "{:?}", config.unknown_names);
    config
}

/// A value for each secret of the manifests.
fn secrets() -> [(&'static str, &'static str); 5] {
    [
        ("redis-url", "redis://:one@redis.internal:6379"),
        (
            "database-url",
            "postgres://me:two@postgres.internal/shop?sslmode=require",
        ),
        ("shopify-secrets", "newest-of-secrets,previous-of-secrets"),
        ("api-tokens", "an-api-token-of-some-length"),
        ("admin-token", "an-admin-token-of-some-length"),
    ]
}

fn workloads() -> Vec<(Purpose, Value)> {
    let documents = file("kubernetes.yaml");
    let documents = serde_yaml_ng::Deserializer::from_str(&documents).map(|one| Value::deserialize(one).unwrap());
    let of_kind = |document: &Value| match document["kind"].as_str().unwrap() {
        "StatefulSet" => Some(Purpose::Serve),
        "Deployment" => Some(Purpose::Work),
        _ => None,
    };
    documents
        .filter_map(|document| of_kind(&document).map(|purpose| (purpose, document)))
        .collect()
}

/// The container's environment, with the secrets that its pod mounts put into `folder`.
fn environment(pod: &Value, folder: &Path) -> BTreeMap<String, String> {
    let mounted: BTreeSet<_> = items(&pod["volumes"][0]["secret"]["items"], "path").collect();
    let container = &pod["containers"][0];
    let pairs = container["env"].as_array().unwrap().iter();
    pairs
        .map(|pair| {
            let (name, value) = (pair["name"].as_str().unwrap(), pair["value"].as_str().unwrap());
            let value = match value.strip_prefix("/secrets/") {
                Some(secret) => {
                    assert!(mounted.contains(secret), "{secret} is not mounted");
                    folder.join(secret).to_str().unwrap().to_owned()
                }
                None => value.to_owned(),
            };
            (name.to_owned(), value)
        })
        .collect()
}

fn items<'a>(list: &'a Value, name: &'a str) -> impl Iterator<Item = &'a str> {
    let list = list.as_array().unwrap().iter();
    list.map(move |item| item[name].as_str().unwrap())
}

#[test]
fn the_kubernetes_manifests_configure_each_process_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (name, secret) in secrets() {
        std::fs::write(folder.path().join(name), secret).unwrap();
    }
    let workloads = workloads();
    assert_eq!(workloads.len(), 2);
    for (purpose, workload) in workloads {
        let pod = &workload["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let config = load(purpose, environment(pod, folder.path()));
        let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
        assert!(config.shutdown.grace < grace, "a drain would be cut short");
        let ports = container["ports"].as_array().unwrap();
        let port = |name: &str| {
            ports
                .iter()
                .find(|port| port["name"] == name)
                .map(|port| &port["containerPort"])
        };
        assert_eq!(port("admin").unwrap(), config.admin.addr.unwrap().port());
        if purpose == Purpose::Serve {
            assert_eq!(port("http").unwrap(), config.public.addr.port());
            assert!(config.spool_limit.is_some());
            let data = container["volumeMounts"].as_array().unwrap();
            assert!(
                data.iter()
                    .any(|mount| Path::new(mount["mountPath"].as_str().unwrap()) == config.data_dir)
            );
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = container[probe]["httpGet"]["path"].as_str();
            assert!(path.is_none_or(|path| ["/livez", "/readyz"].contains(&path)), "{probe}");
        }
    }
}

/// Its templates put `env` and `secretEnv` into the container as they are.
#[test]
fn the_helm_chart_configures_each_process_as_a_whole() {
    let values: Value = serde_yaml_ng::from_str(&file("helm/values.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, secret) in secrets() {
        std::fs::write(folder.path().join(name), secret).unwrap();
    }
    let texts = |pairs: &Value| {
        let pairs = pairs.as_object().unwrap().iter();
        let pairs = pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        pairs.collect::<BTreeMap<_, _>>()
    };
    for (purpose, part) in [(Purpose::Serve, "serve"), (Purpose::Work, "work")] {
        let (of_part, template) = (&values[part], file(&format!("helm/templates/{part}.yaml")));
        let in_folder = |key: String| folder.path().join(key).to_str().unwrap().to_owned();
        let files = texts(&of_part["secretEnv"])
            .into_iter()
            .map(|(name, key)| (name, in_folder(key)));
        let config = load(purpose, texts(&of_part["env"]).into_iter().chain(files).collect());
        let grace = Duration::from_secs(of_part["terminationGracePeriodSeconds"].as_u64().unwrap());
        assert!(config.shutdown.grace < grace, "{part}: a drain would be cut short");
        let has_port = |name: &str, port: u16| template.contains(&format!("{{ name: {name}, containerPort: {port} }}"));
        assert!(has_port("admin", config.admin.addr.unwrap().port()), "{part}");
        assert!(template.contains(&format!("args: [{part}]")), "{part}");
        if purpose == Purpose::Serve {
            assert!(has_port("http", config.public.addr.port()));
            let mount = format!("{{ name: data, mountPath: {} }}", config.data_dir.display());
            assert!(template.contains(&mount), "the volume is the data folder");
            let storage: u64 = of_part["storage"]
                .as_str()
                .unwrap()
                .trim_end_matches("Gi")
                .parse()
                .unwrap();
            assert!(config.spool_limit.unwrap() < storage << 30);
        }
        for name in ["env", "secretItems"] {
            let used = format!("include \"orderstream.{name}\" .Values.{part}");
            assert!(template.contains(&used), "{part} does not use {name}");
        }
    }
    let chart: Value = serde_yaml_ng::from_str(&file("helm/Chart.yaml")).unwrap();
    for version in ["version", "appVersion"] {
        assert_eq!(chart[version], env!("CARGO_PKG_VERSION"), "{version}");
    }
}

#[test]
fn the_fly_file_configures_each_process_as_a_whole() {
    let fly: toml::Table = toml::from_str(&file("fly.toml")).unwrap();
    let env = fly["env"].as_table().unwrap().iter();
    let env = env.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
    let secret = |(name, value): (&str, &str)| {
        let bare = name.replace('-', "_").to_uppercase();
        let name = if bare.ends_with("_URL") {
            bare
        } else {
            format!("ORDERSTREAM_{bare}")
        };
        (name, value.to_owned())
    };
    // The image sets the port.
    let image = [("PORT".to_owned(), "8080".to_owned())];
    let env: BTreeMap<_, _> = env.chain(secrets().map(secret)).chain(image).collect();
    for (purpose, process) in [(Purpose::Serve, "serve"), (Purpose::Work, "work")] {
        let config = load(purpose, env.clone());
        assert_eq!(fly["processes"][process].as_str(), Some(process));
        let timeout = fly["kill_timeout"].as_str().unwrap().trim_end_matches('s');
        assert!(config.shutdown.grace < Duration::from_secs(timeout.parse().unwrap()));
        let admin = i64::from(config.admin.addr.unwrap().port());
        assert_eq!(fly["metrics"]["port"].as_integer(), Some(admin));
        assert_eq!(fly["checks"]["live"]["port"].as_integer(), Some(admin));
        if purpose == Purpose::Serve {
            let port = i64::from(config.public.addr.port());
            assert_eq!(fly["http_service"]["internal_port"].as_integer(), Some(port));
            let folder = fly["mounts"][0]["destination"].as_str().map(PathBuf::from);
            assert_eq!(folder, Some(config.data_dir));
        }
    }
}

/// Every PromQL expression of the alerts and of the dashboard.
fn expressions() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").map(|expr| expr.as_str().unwrap().to_owned()));
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let rules: Value = serde_yaml_ng::from_str(&file("prometheus-rules.yml")).unwrap();
    let dashboard: Value = serde_json::from_str(&file("grafana-dashboard.json")).unwrap();
    let mut found = Vec::new();
    collect(&rules, &mut found);
    assert!(found.len() > 10, "no alerts were found");
    collect(&dashboard, &mut found);
    found
}

/// Names of series in an expression, each with what stands before it.
fn series(expression: &str) -> Vec<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expression.match_indices("orderstream_").map(|(start, _)| start);
    starts
        .map(|start| {
            let (before, rest) = expression.split_at(start);
            (before, rest.split(|c| !is_name(c)).next().unwrap())
        })
        .collect()
}

/// What `orderstream_requests{...outcome=~"a|b"}` and the like ask for: label and value.
fn label_values(expression: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for label in ["route", "outcome", "service", "check"] {
        for part in expression.split(label).skip(1) {
            let asked = part.strip_prefix("=~\"").or_else(|| part.strip_prefix("=\""));
            let asked = asked.and_then(|part| part.split('"').next());
            found.extend(
                asked
                    .into_iter()
                    .flat_map(|asked| asked.split('|'))
                    .map(|value| (label, value)),
            );
        }
    }
    found
}

#[tokio::test]
async fn alerts_and_charts_ask_for_what_is_exported() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let exported = get(service.admin, "/metrics").await;
    let exported = exported.text();
    let kinds: BTreeMap<&str, &str> = exported
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    for expression in expressions() {
        for (before, name) in series(&expression) {
            let counted = before.ends_with("rate(") || before.ends_with("increase(");
            let kind = |end: &str| name.strip_suffix(end).and_then(|base| kinds.get_key_value(base));
            let (kind, counts) = ["_total", "_bucket", "_sum", "_count", ""]
                .into_iter()
                .find_map(|end| kind(end).map(|(_, kind)| (*kind, !end.is_empty())))
                .unwrap_or_else(|| panic!("{name} is not exported: {expression}"));
            assert_eq!(kind == "gauge", !counts, "{name} is a {kind}: {expression}");
            assert_eq!(counts, counted, "{name}: a counter is read as a rate: {expression}");
        }
        for (label, value) in label_values(&expression) {
            let label = format!("{label}=\"{value}\"");
            assert!(exported.contains(&label), "no series has {label}: {expression}");
        }
        if expression.contains("histogram_quantile") {
            assert!(
                expression.contains("sum by (le)") && expression.contains("_bucket{")
                    || expression.contains("_bucket[")
            );
        }
    }
    service.stop().await;
}
