//! Configuration: what comes from where, what is refused, and that it is all said at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orderstream::config::settings::{ALL, Fallback};
use orderstream::config::{Config, ConfigErrors, Inputs, KeepRaw, LogFormat, Purpose};
use secrecy::ExposeSecret;

const REDIS: (&str, &str) = ("REDIS_URL", "redis://127.0.0.1:6379");
const DATABASE: (&str, &str) = ("DATABASE_URL", "postgres://u:p@127.0.0.1/shop");
/// Long enough for an address off loopback.
const SECRETS: [(&str, &str); 3] = [
    ("ORDERSTREAM_SHOPIFY_SECRETS", "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"),
    ("ORDERSTREAM_API_TOKENS", "a1f0c3d2b5e49687"),
    ("ORDERSTREAM_ADMIN_TOKEN", "b2e1d4c3a6f58790"),
];

fn map(pairs: &[(&str, &str)]) -> Arc<BTreeMap<String, String>> {
    Arc::new(
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
    )
}

fn load(purpose: Purpose, flags: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::load(
        purpose,
        Inputs {
            flags: map(flags),
            env: map(env),
        },
    )
}

/// `run`, on services that are named.
fn run(env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    load(Purpose::Run, &[], &[&[REDIS, DATABASE], env].concat())
}

/// Variables of all problems, in order.
fn blamed(outcome: Result<Config, ConfigErrors>) -> Vec<String> {
    outcome.map_or_else(
        |errors| errors.0.into_iter().map(|problem| problem.variable).collect(),
        |_| Vec::new(),
    )
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = run(&[]).unwrap();
    assert_eq!(config.public.addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.addr.unwrap().to_string(), "127.0.0.1:9090");
    assert_eq!(config.data_dir, Path::new("./data"));
    let stream = &config.stream;
    assert_eq!(
        (&*stream.name, &*stream.group, &*stream.dead_letters),
        ("orders_stream", "pipeline_workers", "dead_letters")
    );
    assert_eq!(
        (stream.maxlen, stream.retain_acked, stream.dead_letters_maxlen),
        (100_000, 10_000, 10_000)
    );
    assert_eq!(stream.dedupe_window, Some(Duration::from_secs(6 * 3600)));
    assert_eq!(
        (config.intake.body_limit, config.intake.batch_body_limit),
        (5 << 20, 32 << 20)
    );
    assert_eq!(
        (config.intake.batch_limit, config.intake.keep_raw),
        (10_000, KeepRaw::Off)
    );
    let worker = &config.worker;
    assert_eq!(
        (worker.workers, worker.read_count, worker.block),
        (1, 500, Duration::from_secs(5))
    );
    assert_eq!((worker.max_deliveries, worker.claim_idle), (3, Duration::from_secs(60)));
    assert_eq!(config.database.unwrap().schema, "orderstream");
    assert_eq!(
        (config.shutdown.drain_delay, config.shutdown.grace),
        (Duration::ZERO, Duration::from_secs(25))
    );
    assert_eq!(config.public.keep_alive, Duration::from_secs(620));
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn a_flag_beats_the_environment_beats_a_file_beats_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("url");
    std::fs::write(&path, "redis://file:1/\n").unwrap();
    let file = ("REDIS_URL_FILE", path.to_str().unwrap());
    let url = |flags: &[(&str, &str)], env: &[(&str, &str)]| {
        let config = load(Purpose::Serve, flags, env).unwrap();
        config.redis.unwrap().url.expose_secret().to_owned()
    };
    assert_eq!(url(&[], &[file]), "redis://file:1/");
    assert_eq!(
        url(&[], &[("REDIS_URL", "redis://env:1/"), ("REDIS_URL_FILE", "")]),
        "redis://env:1/"
    );
    assert_eq!(url(&[("REDIS_URL", "redis://flag:1/")], &[file]), "redis://flag:1/");
    assert_eq!(url(&[file], &[("REDIS_URL", "redis://env:1/")]), "redis://file:1/");
    assert_eq!(
        blamed(load(Purpose::Serve, &[], &[REDIS, file])),
        ["REDIS_URL"],
        "both set"
    );
    let missing = [("REDIS_URL_FILE", "/nonexistent/url")];
    assert_eq!(blamed(load(Purpose::Serve, &[], &missing))[0], "REDIS_URL_FILE");
    assert_eq!(
        load(Purpose::Serve, &[], &[REDIS, ("ORDERSTREAM_STREAM", "")])
            .unwrap()
            .stream
            .name,
        "orders_stream"
    );
}

#[test]
fn port_makes_the_default_address() {
    let of = |env: &[(&str, &str)]| run(&[&SECRETS[..], env].concat()).unwrap().public.addr.to_string();
    assert_eq!(of(&[("PORT", "5000")]), "0.0.0.0:5000");
    assert_eq!(
        of(&[("PORT", "5000"), ("ORDERSTREAM_LISTEN_ADDR", "127.0.0.1:1")]),
        "127.0.0.1:1"
    );
    assert_eq!(blamed(run(&[("PORT", "70000")])), ["PORT"]);
}

#[test]
fn the_private_listener_has_the_names_it_is_given() {
    let hosts = |text| run(&[("ORDERSTREAM_ADMIN_HOSTS", text)]).map(|config| config.admin.hosts.to_vec());
    assert_eq!(hosts("").unwrap(), Vec::<String>::new());
    assert_eq!(hosts("orders.internal, admin,").unwrap(), ["orders.internal", "admin"]);
    for wrong in [
        ",",
        "orders.internal:9090",
        "http://orders.internal",
        "*.internal",
        "a b",
    ] {
        assert_eq!(
            blamed(run(&[("ORDERSTREAM_ADMIN_HOSTS", wrong)])),
            ["ORDERSTREAM_ADMIN_HOSTS"],
            "{wrong}"
        );
    }
}

#[test]
fn each_purpose_needs_its_services() {
    for alone in [Purpose::Run, Purpose::Migrate, Purpose::Status, Purpose::Client] {
        let config = load(alone, &[], &[]).unwrap();
        assert!(config.redis.is_none() && config.database.is_none(), "{alone:?}");
    }
    assert_eq!(blamed(load(Purpose::Serve, &[], &[])), ["REDIS_URL"]);
    assert_eq!(blamed(load(Purpose::Work, &[], &[])), ["REDIS_URL", "DATABASE_URL"]);
    assert_eq!(blamed(load(Purpose::Work, &[], &[REDIS])), ["DATABASE_URL"]);
    let errors = load(Purpose::Serve, &[], &[]).unwrap_err().to_string();
    assert!(
        errors.contains("one process") && errors.contains("`orderstream run`"),
        "{errors}"
    );
    let mixed = load(Purpose::Run, &[], &[DATABASE]).unwrap();
    assert!(mixed.redis.is_none() && mixed.database.is_some());
    let owner = [("ORDERSTREAM_MIGRATE_DATABASE_URL", "postgres://owner@h/d")];
    assert_eq!(
        load(Purpose::Migrate, &[], &owner)
            .unwrap()
            .database
            .unwrap()
            .url
            .expose_secret(),
        owner[0].1
    );
    let worker = load(Purpose::Work, &[], &[REDIS, DATABASE]).unwrap();
    assert_eq!(worker.admin.addr, None, "a worker listens only where it is told to");
}

#[test]
fn bad_values_are_named_with_what_is_expected() {
    for (name, text) in [
        ("ORDERSTREAM_LISTEN_ADDR", "8080"),
        ("ORDERSTREAM_BLOCK", "5"),
        ("ORDERSTREAM_BLOCK", "5 s"),
        ("ORDERSTREAM_BODY_LIMIT", "5MB"),
        ("ORDERSTREAM_WORKERS", "0"),
        ("ORDERSTREAM_WORKERS", "-1"),
        ("ORDERSTREAM_SPOOL_LIMIT", "much"),
        ("ORDERSTREAM_KEEP_RAW", "yes"),
        ("ORDERSTREAM_DEDUPE_BY", "body"),
        ("ORDERSTREAM_DATABASE_SCHEMA", "public"),
        ("ORDERSTREAM_DATABASE_SCHEMA", "x; drop"),
        ("ORDERSTREAM_LOG_FORMAT", "xml"),
        ("ORDERSTREAM_HEALTH_LAG_WARNING", "many"),
        ("RUST_LOG", "orderstream=loud"),
        ("CONSUMER_NAME", "a\nb"),
        ("ORDERSTREAM_REDIS_CA_FILE", "/nonexistent/ca.pem"),
        ("ORDERSTREAM_SHOP_SECRETS_FILE", "/nonexistent/shops.toml"),
    ] {
        let errors = run(&[(name, text)]).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert_eq!(errors.0[0].variable, name);
        assert_eq!(
            errors.0[0].expected,
            kind_of(name).replace("the path of a readable file", &errors.0[0].expected)
        );
    }
}

fn kind_of(name: &str) -> String {
    let kind = ALL.iter().find(|setting| setting.name == name).unwrap().kind;
    if name.ends_with("_FILE") {
        "the path of a readable file".to_owned()
    } else {
        kind.to_string()
    }
}

#[test]
fn contradictions_are_found() {
    for (env, variables) in [
        (
            &[("ORDERSTREAM_RETAIN_ACKED", "10"), ("ORDERSTREAM_STREAM_MAXLEN", "10")][..],
            "ORDERSTREAM_RETAIN_ACKED, ORDERSTREAM_STREAM_MAXLEN",
        ),
        (
            &[("ORDERSTREAM_STATEMENT_TIMEOUT", "60s")],
            "ORDERSTREAM_STATEMENT_TIMEOUT, ORDERSTREAM_CLAIM_IDLE",
        ),
        (&[("ORDERSTREAM_APPEND_DEADLINE", "4s")], "ORDERSTREAM_APPEND_DEADLINE"),
        (
            &[("ORDERSTREAM_REDIS_RESPONSE_TIMEOUT", "3s")],
            "ORDERSTREAM_REDIS_RESPONSE_TIMEOUT, ORDERSTREAM_APPEND_DEADLINE",
        ),
        (
            &[("ORDERSTREAM_DRAIN_DELAY", "25s")],
            "ORDERSTREAM_DRAIN_DELAY, ORDERSTREAM_SHUTDOWN_GRACE",
        ),
        (
            &[("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:8080")],
            "ORDERSTREAM_LISTEN_ADDR, ORDERSTREAM_ADMIN_ADDR",
        ),
        (
            &[("ORDERSTREAM_STREAM", "dead_letters")],
            "ORDERSTREAM_STREAM, ORDERSTREAM_DEAD_LETTER_STREAM",
        ),
        (
            &[("ORDERSTREAM_CONSUMER_TTL", "60s")],
            "ORDERSTREAM_CONSUMER_TTL, ORDERSTREAM_CLAIM_IDLE",
        ),
        (
            &[("ORDERSTREAM_REDIS_POOL_SIZE", "2")],
            "ORDERSTREAM_REDIS_POOL_SIZE, ORDERSTREAM_WRITERS",
        ),
        (
            &[("ORDERSTREAM_DATABASE_POOL_SIZE", "1"), ("ORDERSTREAM_WORKERS", "2")],
            "ORDERSTREAM_DATABASE_POOL_SIZE, ORDERSTREAM_WORKERS",
        ),
        (
            &[("ORDERSTREAM_BYTES_IN_FLIGHT", "16MiB")],
            "ORDERSTREAM_BYTES_IN_FLIGHT, ORDERSTREAM_BODY_LIMIT, ORDERSTREAM_BATCH_BODY_LIMIT",
        ),
        (
            &[("ORDERSTREAM_HEALTH_LENGTH_WARNING", "95%")],
            "ORDERSTREAM_HEALTH_LENGTH_WARNING, ORDERSTREAM_HEALTH_LENGTH_CRITICAL",
        ),
        (
            &[("ORDERSTREAM_REDIS_CA_FILE", "Cargo.toml")],
            "ORDERSTREAM_REDIS_CA_FILE, REDIS_URL",
        ),
    ] {
        assert_eq!(blamed(run(env)), [variables]);
    }
}

#[test]
fn what_belongs_to_a_server_needs_the_server() {
    for (name, text, variables) in [
        (
            "ORDERSTREAM_MIGRATE_DATABASE_URL",
            DATABASE.1,
            "ORDERSTREAM_MIGRATE_DATABASE_URL, DATABASE_URL",
        ),
        (
            "ORDERSTREAM_REDIS_CA_FILE",
            "Cargo.toml",
            "ORDERSTREAM_REDIS_CA_FILE, REDIS_URL",
        ),
        (
            "ORDERSTREAM_DURABILITY",
            "replicated:1",
            "ORDERSTREAM_DURABILITY, REDIS_URL",
        ),
    ] {
        // An environment that other commands share may hold it all the same.
        assert!(load(Purpose::Client, &[], &[(name, text)]).is_ok(), "{name}");
        assert_eq!(
            blamed(load(Purpose::Run, &[], &[(name, text)])),
            [variables],
            "{name} without its server"
        );
    }
}

#[test]
fn setting_one_thing_does_not_demand_another() {
    let small = run(&[
        ("ORDERSTREAM_STREAM_MAXLEN", "100"),
        ("ORDERSTREAM_CLAIM_IDLE", "2s"),
        ("ORDERSTREAM_WORKERS", "8"),
        ("ORDERSTREAM_APPEND_DEADLINE", "500ms"),
    ])
    .unwrap();
    assert_eq!(small.stream.retain_acked, 10);
    let database = small.database.unwrap();
    assert_eq!(
        (database.statement_timeout, database.pool_size),
        (Duration::from_secs(1), 10)
    );
    assert_eq!(small.redis.unwrap().response_timeout, Duration::from_millis(500));
}

#[test]
fn everything_wrong_is_reported_at_once_and_no_secret_with_it() {
    let errors = load(
        Purpose::Run,
        &[],
        &[
            ("REDIS_URL", "http://user:hunter2@h/"),
            ("DATABASE_URL", "hunter2"),
            ("ORDERSTREAM_SHOPIFY_SECRETS", ",\n,"),
            ("ORDERSTREAM_ADMIN_TOKEN", "hunter2\u{7}"),
            ("ORDERSTREAM_BLOCK", "soon"),
            ("ORDERSTREAM_DRAIN_DELAY", "1m"),
        ],
    )
    .unwrap_err();
    let text = errors.to_string();
    assert_eq!(errors.0.len(), 6, "{text}");
    assert!(text.starts_with("6 problems in the configuration:"));
    assert!(!text.contains("hunter2"));
    for cluster in ["redis+cluster://h", "rediss+cluster://h,i:7000"] {
        let config = load(Purpose::Serve, &[], &[("REDIS_URL", cluster)]).unwrap();
        assert!(config.redis.is_some(), "{cluster}");
    }
}

#[test]
fn it_fails_closed() {
    let open = ("ORDERSTREAM_LISTEN_ADDR", "0.0.0.0:8080");
    let secrets = "ORDERSTREAM_SHOPIFY_SECRETS, ORDERSTREAM_SHOP_SECRETS_FILE";
    assert_eq!(blamed(run(&[open])), [secrets, "ORDERSTREAM_API_TOKENS"]);
    assert_eq!(blamed(run(&[open, SECRETS[0]])), ["ORDERSTREAM_API_TOKENS"]);
    assert!(run(&[open, SECRETS[0], SECRETS[1]]).is_ok());
    assert_eq!(
        blamed(run(&[("ORDERSTREAM_ADMIN_ADDR", "10.0.0.1:9090")])),
        ["ORDERSTREAM_ADMIN_TOKEN"]
    );
    assert!(run(&[("ORDERSTREAM_LISTEN_ADDR", "[::1]:8080")]).unwrap().is_local());
    let half = run(&[("ORDERSTREAM_ADMIN_TOKEN", "a")]).unwrap();
    assert!(!half.is_local() && half.warnings[0].contains("refused with 401"));
}

#[test]
fn secrets_that_protect_nothing_are_refused() {
    let names = SECRETS.map(|(name, _)| name);
    // Whatever the address: in a copied example, in each place of a list, in any case.
    for text in ["...", "changeme", "Your-Secret-Here", "newest,previous"] {
        let errors = run(&names.map(|name| (name, text))).unwrap_err();
        let blamed: BTreeSet<_> = errors.0.iter().map(|problem| &*problem.variable).collect();
        assert_eq!(Vec::from_iter(blamed), [names[2], names[1], names[0]], "{text}");
        let said = errors.to_string();
        assert!(said.contains("openssl rand -hex 32") && !said.contains(text), "{said}");
    }
    let mixed = run(&[(names[1], "a1f0c3d2b5e49687, changeme")]).unwrap_err();
    assert_eq!(mixed.0.len(), 1, "{mixed}");
    assert!(
        mixed.to_string().contains("the secret 2 of 2 is a placeholder"),
        "{mixed}"
    );

    // Only where others can reach the process, and all together with what else is wrong.
    let short = names.map(|name| (name, "hunter2-hunter2"));
    assert!(run(&short).is_ok(), "on loopback");
    for open in ["ORDERSTREAM_LISTEN_ADDR", "ORDERSTREAM_ADMIN_ADDR"] {
        let env = [&short[..], &[(open, "0.0.0.0:7070"), ("ORDERSTREAM_BLOCK", "soon")]].concat();
        let errors = run(&env).unwrap_err();
        let wanted = ["ORDERSTREAM_BLOCK", names[0], names[1], names[2]];
        assert!(!errors.to_string().contains("hunter2"), "{errors}");
        assert_eq!(blamed(Err(errors)), wanted, "{open}");
        let long = names.map(|name| (name, "hunter2-hunter-2"));
        assert!(run(&[&long[..], &[(open, "0.0.0.0:7070")]].concat()).is_ok(), "{open}");
    }

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "\"a.myshopify.com\" = [\"shpss_4b1d0f4c9e2a7f3d\", \"previous\"]",
    )
    .unwrap();
    let shops = ("ORDERSTREAM_SHOP_SECRETS_FILE", file.path().to_str().unwrap());
    let errors = run(&[shops]).unwrap_err().to_string();
    assert!(
        errors.contains("the secret 2 of 2 for a.myshopify.com is a placeholder"),
        "{errors}"
    );
}

#[test]
fn files_behind_an_open_address_are_pointed_out() {
    let warnings = |more: &[(&str, &str)]| {
        let env = [&SECRETS[..], more].concat();
        load(Purpose::Run, &[], &env).unwrap().warnings
    };
    assert!(warnings(&[]).is_empty());
    let open = ("PORT", "8080");
    for (url, missing) in [(REDIS, "DATABASE_URL"), (DATABASE, "REDIS_URL")] {
        let found = warnings(&[open, url]);
        assert!(
            found.len() == 1 && found[0].starts_with(missing) && found[0].contains("./data"),
            "{found:?}"
        );
    }
    assert!(warnings(&[open, REDIS, DATABASE]).is_empty());
}

#[test]
fn local_secrets_are_adopted_and_survive_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = run(&[("ORDERSTREAM_DATA_DIR", dir.path().to_str().unwrap())]).unwrap();
    let local = config.adopt_local().unwrap().unwrap();
    assert_eq!(
        config.auth.shopify_secrets[0].expose_secret(),
        local.shopify_secret.expose_secret()
    );
    let again = config.reload().unwrap();
    assert_eq!(
        again.auth.api_tokens[0].expose_secret(),
        local.api_token.expose_secret()
    );
    assert_eq!(
        again.admin_token.unwrap().expose_secret(),
        local.admin_token.expose_secret()
    );
}

#[test]
fn a_configuration_file_is_below_flags_and_environment_and_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orderstream.toml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    let file = ("ORDERSTREAM_CONFIG", path.to_str().unwrap());
    write(
        "ORDERSTREAM_WORKERS = 3\nORDERSTREAM_STREAM = 'of_file'\nREDIS_URL = 'redis://file:1'\nORDERSTREAM_API_TOKENS = ['a', 'b']\n",
    );
    let stream = |flags: &[(&str, &str)], env: &[(&str, &str)]| {
        load(Purpose::Run, flags, &[&[file], env].concat()).unwrap().stream.name
    };
    assert_eq!(stream(&[], &[]), "of_file");
    assert_eq!(stream(&[], &[("ORDERSTREAM_STREAM", "of_env")]), "of_env");
    assert_eq!(
        stream(
            &[("ORDERSTREAM_STREAM", "of_flag")],
            &[("ORDERSTREAM_STREAM", "of_env")]
        ),
        "of_flag"
    );
    let config = load(Purpose::Run, &[file], &[]).unwrap();
    assert_eq!((config.worker.workers, config.auth.api_tokens.len()), (3, 2));
    assert_eq!(config.redis.as_ref().unwrap().url.expose_secret(), "redis://file:1");
    write("REDIS_URL = 'redis://other:1'\nORDERSTREAM_API_TOKENS = 'c'\n");
    let fresh = config.reload().unwrap();
    assert_eq!(fresh.redis_url.unwrap().expose_secret(), "redis://other:1");
    assert_eq!(fresh.auth.api_tokens[0].expose_secret(), "c");

    // Everything that is wrong, in the file and beside it, at once.
    write("ORDERSTREAM_STREM = 'hunter2'\nORDERSTREAM_WORKERS = 0\nORDERSTREAM_ADMIN_TOKEN_FILE = '/no/such'\n");
    let said = load(Purpose::Run, &[], &[file, ("ORDERSTREAM_BLOCK", "soon")])
        .unwrap_err()
        .to_string();
    for part in [
        "expected ORDERSTREAM_STREAM, which is similar",
        &format!("ORDERSTREAM_WORKERS: `0` is not valid in {}", path.display()),
        "ORDERSTREAM_ADMIN_TOKEN_FILE: /no/such",
        "ORDERSTREAM_BLOCK: `soon` is not valid;",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    assert!(config.reload().is_err());
}

#[test]
fn a_reload_reads_files_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets");
    std::fs::write(&path, "old").unwrap();
    let config = run(&[("ORDERSTREAM_SHOPIFY_SECRETS_FILE", path.to_str().unwrap())]).unwrap();
    std::fs::write(&path, "new\nold\n").unwrap();
    let secrets = config.reload().unwrap().auth.shopify_secrets;
    let secrets: Vec<_> = secrets.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(secrets, ["new", "old"]);
    std::fs::write(&path, "\n").unwrap();
    assert!(config.reload().is_err(), "an empty file is no wish to have no secret");
    std::fs::remove_file(&path).unwrap();
    assert!(config.reload().is_err());
}

#[test]
fn the_debug_form_holds_no_secret() {
    let config = run(&[
        ("ORDERSTREAM_SHOPIFY_SECRETS", "hunter2"),
        ("ORDERSTREAM_API_TOKENS", "hunter2"),
        ("ORDERSTREAM_ADMIN_TOKEN", "hunter2"),
    ]);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn each_process_has_a_name_of_its_own() {
    let name = || run(&[("HOSTNAME", "node-1")]).unwrap().worker.consumer;
    assert!(name().starts_with("node-1-"));
    assert_ne!(name(), name());
    assert_eq!(run(&[("CONSUMER_NAME", "exactly")]).unwrap().worker.consumer, "exactly");
}

/// The table of docs/CONFIGURATION.md, from the table in the code.
fn documented() -> String {
    let mut rows = String::new();
    let mut section = "";
    for setting in ALL {
        if setting.section != section {
            section = setting.section;
            rows += &format!("\n**{section}**\n\n| variable | default | |\n|---|---|---|\n");
        }
        let default = match setting.default {
            Fallback::Text(text) => format!("`{text}`"),
            Fallback::Derived(how) => how.to_owned(),
            Fallback::Unset => String::new(),
        };
        rows += &format!("| `{}` | {default} | {} |\n", setting.name, setting.help);
    }
    rows
}

/// `UPDATE_CONFIGURATION=1 cargo test --test suite every_setting_is_documented` writes it.
#[test]
fn every_setting_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- settings:begin -->").unwrap();
    let (_, after) = rest.split_once("<!-- settings:end -->").unwrap();
    let wanted = format!(
        "{before}<!-- settings:begin -->{}<!-- settings:end -->{after}",
        documented()
    );
    if std::env::var_os("UPDATE_CONFIGURATION").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        assert!(page == wanted, "run it with UPDATE_CONFIGURATION=1");
    }
}
