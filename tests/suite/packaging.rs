//! The compose file and the Dockerfile, read as Docker would read them: no engine runs here.

#[path = "../../build/commit.rs"]
mod commit;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use orderstream::config::{Config, Inputs, Purpose};
use orderstream::metrics::Metrics;
use orderstream::stream::redis::RedisStream;
use serde_yaml_ng::Value;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The commands of a block of the README that contains `what`.
fn commands(what: &str) -> String {
    let readme = file("README.md");
    let blocks = readme.split("```sh\n").skip(1);
    let mut blocks = blocks.map(|block| block.split("```").next().unwrap());
    blocks.find(|block| block.contains(what)).unwrap().to_owned()
}

/// `.env` as the README's commands fill it in.
fn filled_in() -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(".env.example"), file(".env.example")).unwrap();
    let all = commands("docker compose up");
    let (before, _) = all.split_once("docker compose").unwrap();
    let status = Command::new("sh")
        .args(["-euc", before])
        .current_dir(&dir)
        .status()
        .unwrap();
    assert!(status.success(), "{before}");
    let env = std::fs::read_to_string(dir.path().join(".env")).unwrap();
    let pairs = env.lines().filter(|line| !line.starts_with('#'));
    pairs
        .filter_map(|line| line.split_once('='))
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}

#[test]
fn what_the_documents_show_as_a_secret_is_none() {
    let shown = [
        "README.md",
        ".env.example",
        "docs/CONFIGURATION.md",
        "docs/OPERATIONS.md",
        "docs/deploy/fly.toml",
        "docs/deploy/kubernetes.yaml",
    ];
    let (mut found, names) = (0, ["SHOPIFY_SECRETS", "API_TOKENS", "ADMIN_TOKEN"]);
    for text in shown.map(file) {
        for (name, secret) in names
            .iter()
            .flat_map(|name| text.split(name).skip(1).map(move |rest| (name, rest)))
        {
            let Some(secret) = secret.strip_prefix('=') else {
                continue;
            };
            let secret = secret.split([' ', '\n', '`']).next().unwrap();
            if secret.is_empty() || secret.starts_with("$(") {
                continue;
            }
            found += 1;
            let variable = format!("ORDERSTREAM_{name}");
            let inputs = Inputs {
                flags: Arc::default(),
                env: Arc::new([(variable.clone(), secret.to_owned())].into()),
            };
            let errors = Config::load(Purpose::Run, inputs).unwrap_err();
            assert!(errors.0.iter().all(|problem| problem.variable == variable), "{errors}");
        }
    }
    assert!(found > 2, "the documents show none any more");
}

/// Puts values in the place of `${NAME}`, `${NAME:-default}` and `${NAME:?message}`, and notes which were used.
fn interpolated(text: &str, env: &BTreeMap<String, String>, used: &mut BTreeSet<String>) -> String {
    let (mut done, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, behind) = after.split_once('}').unwrap();
        let name = inside.split(':').next().unwrap();
        let value = env.get(name).unwrap_or_else(|| panic!("{name} is not in .env.example"));
        used.insert(name.to_owned());
        done.push_str(before);
        done.push_str(value);
        rest = behind;
    }
    done + rest
}

fn compose() -> Value {
    let (env, mut used) = (filled_in(), BTreeSet::new());
    let text = file("docker-compose.yml");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let text = interpolated(&lines.collect::<Vec<_>>().join("\n"), &env, &mut used);
    assert_eq!(
        used,
        env.keys().cloned().collect(),
        "what .env.example asks for is used"
    );
    let mut compose: Value = serde_yaml_ng::from_str(&text).unwrap();
    compose.apply_merge().unwrap();
    compose
}

fn services(compose: &Value) -> BTreeMap<&str, &Value> {
    let services = compose["services"].as_mapping().unwrap();
    services
        .iter()
        .map(|(name, service)| (name.as_str().unwrap(), service))
        .collect()
}

fn texts(value: &Value) -> Vec<&str> {
    let items = value.as_sequence().into_iter().flatten();
    items.map(|item| item.as_str().unwrap()).collect()
}

/// What the image sets, and what compose adds to it.
fn environment(service: &Value) -> BTreeMap<String, String> {
    let dockerfile = file("Dockerfile").replace("\\\n", " ");
    let image = dockerfile.lines().filter_map(|line| line.strip_prefix("ENV "));
    let image = image
        .flat_map(str::split_whitespace)
        .map(|pair| pair.split_once('=').unwrap());
    let own = service["environment"].as_mapping().unwrap().iter();
    let own = own.map(|(name, text)| (name.as_str().unwrap(), text.as_str().unwrap()));
    image
        .chain(own)
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}

fn load(purpose: Purpose, service: &Value) -> Config {
    let inputs = Inputs {
        flags: Arc::default(),
        env: Arc::new(environment(service)),
    };
    Config::load(purpose, inputs).unwrap()
}

#[test]
fn the_compose_file_configures_each_process_as_a_whole() {
    let compose = compose();
    let services = services(&compose);
    for (name, purpose) in [("serve", Purpose::Serve), ("work", Purpose::Work)] {
        let service = services[name];
        assert_eq!(texts(&service["command"]), [name]);
        let config = load(purpose, service);
        assert_eq!((config.warnings, config.unknown_names), (vec![], vec![]), "{name}");
        // `orderstream health`, which runs in the container, must know where to ask.
        let health = load(Purpose::Client, service);
        assert!(purpose.ingests() || health.admin.addr.is_some(), "{name}");
        for (setting, server) in [("REDIS_URL", "redis"), ("DATABASE_URL", "postgres")] {
            let Some(url) = environment(service).remove(setting) else {
                continue;
            };
            let url = url::Url::parse(&url).unwrap();
            assert_eq!(url.host_str(), Some(server), "{name}");
            let password = url.password().unwrap();
            assert_eq!(password.len(), 64, "{name}");
            assert!(serde_yaml_ng::to_string(services[server]).unwrap().contains(password));
        }
    }
    let serve = load(Purpose::Serve, services["serve"]);
    let (public, admin) = (serve.public.addr, serve.admin.addr.unwrap());
    for addr in [public, admin] {
        assert!(addr.ip().is_unspecified(), "reachable from outside the container");
    }
    let ports = [
        format!("8080:{}", public.port()),
        // From this machine alone.
        format!("127.0.0.1:9090:{}", admin.port()),
    ];
    assert_eq!(texts(&services["serve"]["ports"]), ports);
    assert!(file("Dockerfile").contains(&format!("EXPOSE {}\n", public.port())));
}

/// The file with Sentinel changes the URL, and runs what that names.
#[test]
fn the_compose_file_of_sentinel_names_what_it_runs() {
    let text = interpolated(&file("docker-compose.sentinel.yml"), &filled_in(), &mut BTreeSet::new());
    let mut sentinel: Value = serde_yaml_ng::from_str(&text).unwrap();
    sentinel.apply_merge().unwrap();
    let (base, further) = (compose(), services(&sentinel));
    let started = |name: &str| texts(&further[name]["command"]).concat();
    for (name, purpose) in [("serve", Purpose::Serve), ("work", Purpose::Work)] {
        let mut service = services(&base)[name].clone();
        for (setting, value) in further[name]["environment"].as_mapping().unwrap() {
            service["environment"][setting] = value.clone();
        }
        let config = load(purpose, &service);
        assert_eq!((config.warnings, config.unknown_names), (vec![], vec![]), "{name}");
        let redis = config.redis.unwrap();
        RedisStream::new(&redis, &config.stream, Metrics::new()).unwrap();
        let url = environment(&service).remove("REDIS_URL").unwrap();
        let (credentials, rest) = url.split_once('@').unwrap();
        let (hosts, primary) = rest.split_once('/').unwrap();
        for host in hosts.split(',') {
            assert!(
                started(host).contains(&format!("sentinel monitor {primary} redis 6379 2\n")),
                "{host}"
            );
            assert!(further[name]["depends_on"].get(host).is_some(), "{host}");
        }
        let password = credentials.strip_prefix("redis+sentinel://:").unwrap();
        for server in ["redis", "redis-replica"] {
            assert!(started(server).contains(&format!("requirepass {password}\nmasterauth {password}\n")));
        }
    }
}

/// The file with a cluster changes the URL, and runs the nodes that it names.
#[test]
fn the_compose_file_of_a_cluster_names_what_it_runs() {
    let text = interpolated(&file("docker-compose.cluster.yml"), &filled_in(), &mut BTreeSet::new());
    let mut cluster: Value = serde_yaml_ng::from_str(&text).unwrap();
    cluster.apply_merge().unwrap();
    let (base, further) = (compose(), services(&cluster));
    for (name, purpose) in [("serve", Purpose::Serve), ("work", Purpose::Work)] {
        let mut service = services(&base)[name].clone();
        for (setting, value) in further[name]["environment"].as_mapping().unwrap() {
            service["environment"][setting] = value.clone();
        }
        let config = load(purpose, &service);
        assert_eq!((config.warnings, config.unknown_names), (vec![], vec![]), "{name}");
        assert!(config.stream.partitions >= Some(4 * 3), "four for each primary");
        let redis = config.redis.unwrap();
        RedisStream::new(&redis, &config.stream, Metrics::new()).unwrap();
        let url = environment(&service).remove("REDIS_URL").unwrap();
        let (credentials, hosts) = url.split_once('@').unwrap();
        let password = credentials.strip_prefix("redis+cluster://:").unwrap();
        let create = texts(&further["cluster"]["command"]).concat();
        let mut nodes = 0;
        for (host, node) in further.iter().filter(|(_, node)| node.get("networks").is_some()) {
            let command = texts(&node["command"]).concat();
            assert!(
                command.contains(&format!("--requirepass {password} --masterauth {password}")),
                "{host}"
            );
            assert!(command.contains("--cluster-enabled yes"), "{host}");
            let address = node["networks"]["default"]["ipv4_address"].as_str().unwrap();
            assert!(create.contains(&format!("{address}:6379")), "{host}");
            assert!(further["cluster"]["depends_on"].get(*host).is_some(), "{host}");
            nodes += 1;
        }
        assert_eq!(nodes, 6);
        assert!(
            hosts.split(',').all(|host| further[host].get("networks").is_some()),
            "{hosts}"
        );
        assert!(further[name]["depends_on"].get("cluster").is_some());
    }
}

#[test]
fn what_the_compose_file_names_is_there() {
    let compose = compose();
    let services = services(&compose);
    for (name, service) in &services {
        for (other, how) in service["depends_on"].as_mapping().into_iter().flatten() {
            let other = services[other.as_str().unwrap()];
            assert_eq!(how["condition"], "service_healthy", "{name}");
            // Ours has its own in the image.
            assert!(
                other.get("healthcheck").is_some() || other.get("build").is_some(),
                "{name}"
            );
        }
        for volume in texts(&service["volumes"]) {
            let (volume, _) = volume.split_once(':').unwrap();
            assert!(compose["volumes"].get(volume).is_some(), "{name}: {volume}");
        }
        assert_eq!(service["logging"]["options"]["max-size"], "10m", "{name}");
    }
}

#[test]
fn the_data_folder_can_be_written_by_the_images_user() {
    let dockerfile = file("Dockerfile");
    let user = dockerfile.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    let made = format!("COPY --from=build --chown={user} /data /data\nWORKDIR /\n");
    assert!(dockerfile.contains(&made), "the default ./data is /data");
    let compose = compose();
    for (name, service) in services(&compose) {
        let Some(folder) = service["environment"].get("ORDERSTREAM_DATA_DIR") else {
            continue;
        };
        let folder = format!(":{}", folder.as_str().unwrap());
        assert!(
            service["read_only"] == true
                && texts(&service["volumes"])
                    .iter()
                    .any(|volume| volume.ends_with(&folder)),
            "{name}: nothing else can be written"
        );
        assert!(dockerfile.contains(&format!(" {}\n", &folder[1..])), "{name}");
    }
}

#[test]
fn the_image_is_built_from_what_is_there() {
    let (dockerfile, manifest, context) = (file("Dockerfile"), file("Cargo.toml"), file(".dockerignore"));
    // Cargo reads no manifest with a target that is missing; the image has the sources of the program alone.
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    for kind in ["test", "bench", "example"] {
        for target in manifest.get(kind).and_then(toml::Value::as_array).into_iter().flatten() {
            let path = target["path"].as_str().unwrap();
            assert!(dockerfile.contains(path), "the Dockerfile makes no empty {path}");
        }
    }
    let copies = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    for copy in copies.filter(|copy| !copy.starts_with("--from")) {
        let mut names: Vec<&str> = copy.split_whitespace().collect();
        names.pop();
        for name in names {
            assert!(
                context.lines().any(|line| line == format!("!{name}")),
                "{name} is ignored"
            );
        }
    }
}

/// As a release build tells it, of a clone, a worktree and a detached HEAD.
#[test]
fn the_commit_is_read_without_a_git_program() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let git = |folder: &Path, args: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        let output = Command::new("git")
            .args(identity)
            .args(args)
            .current_dir(folder)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let read = |folder: &Path| {
        let watched = std::cell::RefCell::new(Vec::new());
        let commit = commit::checked_out(folder, |path| watched.borrow_mut().push(path.to_owned()));
        assert!(watched.borrow().iter().all(|path| path.is_file()), "{watched:?}");
        commit
    };
    assert_eq!(read(root), None, "no repository");
    git(root, &["init", "--initial-branch=topic/one"]);
    assert_eq!(read(root), None, "no commit");
    git(root, &["commit", "--allow-empty", "--message=a"]);
    let commit = git(root, &["rev-parse", "HEAD"]);
    assert_eq!(read(root).as_ref(), Some(&commit));
    git(root, &["pack-refs", "--all"]);
    assert_eq!(read(root).as_ref(), Some(&commit), "packed");
    git(root, &["worktree", "add", "-b", "two", "tree"]);
    assert_eq!(read(&root.join("tree")).as_ref(), Some(&commit), "a worktree");
    git(root, &["checkout", "--detach"]);
    assert_eq!(read(root).as_ref(), Some(&commit), "detached");
}
