//! The real binary: exit codes, messages, and that no secret is ever printed.

use std::process::{Command, Output, Stdio};

use orderstream::config::settings::ALL;
use serde_json::json;

use crate::harness::postgres::Database;
use crate::harness::redis::RedisServer;
use crate::harness::service::Service;
use crate::harness::site::Site;

/// Runs it with nothing but this environment, in an empty folder.
fn orderstream(args: &[&str], env: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    program(args, env).current_dir(folder.path()).output().unwrap()
}

fn program(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_orderstream"));
    program.args(args).env_clear().envs(env.iter().copied());
    program.stdin(Stdio::null());
    program
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_lists_every_setting() {
    let output = orderstream(&["--help"], &[]);
    let (help, errors) = texts(&output);
    assert_eq!((output.status.code(), &*errors), (Some(0), ""));
    for setting in ALL {
        let flag = format!("--{} <", setting.flag());
        assert!(
            help.contains(&flag) && help.contains(setting.name),
            "{} is missing",
            setting.name
        );
    }
    for command in [
        "run",
        "serve",
        "work",
        "send",
        "check",
        "migrate",
        "dead-letters",
        "trace",
        "replay",
        "rebuild",
        "pause",
        "resume",
        "forget",
        "status",
        "health",
        "tail",
        "init",
        "completions",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is missing");
    }
}

#[test]
fn short_help_fits_a_screen() {
    let (help, _) = texts(&orderstream(&["-h"], &[]));
    assert!(help.lines().count() <= 42 && help.contains("Examples:"), "{help}");
}

#[test]
fn a_shell_completes_commands_and_flags() {
    let (script, _) = texts(&orderstream(&["completions", "bash"], &[]));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, script).unwrap();
    let completed = |words: &str| {
        let complete = "source \"$0\"; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                        _orderstream \"$1\" \"${COMP_WORDS[-1]}\" \"${COMP_WORDS[-2]}\"; echo \"${COMPREPLY[*]}\"";
        let mut bash = Command::new("bash");
        bash.args(["-c", complete]).arg(file.path()).args(words.split(' '));
        texts(&bash.output().unwrap()).0.trim().to_owned()
    };
    assert_eq!(completed("orderstream dead"), "dead-letters");
    assert_eq!(completed("orderstream dead-letters dis"), "discard");
    assert_eq!(completed("orderstream send --ver"), "--verify");
}

#[test]
fn manual_pages_are_of_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let made = orderstream(&["man", pages.to_str().unwrap()], &[]);
    assert!(made.status.success(), "{}", texts(&made).1);
    for page in [
        "orderstream.1",
        "orderstream-serve.1",
        "orderstream-dead-letters-replay.1",
    ] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".TH ") && text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
}

#[test]
fn wrong_usage_is_64() {
    for args in [
        &["nope"][..],
        &["--nope"],
        &["send", "--rate", "-1"],
        &["send", "--count", "x"],
        &["run", "--block"],
        &["dead-letters", "replay"],
        &["dead-letters", "discard", "--all", "--id", "1-1"],
        &["replay", "--from", "yesterday"],
        &["trace"],
    ] {
        let output = orderstream(args, &[]);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(texts(&output).1.contains("error"), "{args:?}");
    }
}

#[test]
fn wrong_configuration_is_78_and_names_everything() {
    for command in ["run", "serve", "work", "migrate", "status"] {
        let output = orderstream(
            &[command],
            &[("ORDERSTREAM_BLOCK", "soon"), ("ORDERSTREAM_WORKERS", "0")],
        );
        let (_, errors) = texts(&output);
        assert_eq!(output.status.code(), Some(78), "{command}: {errors}");
        assert!(
            errors.contains("ORDERSTREAM_BLOCK: `soon`") && errors.contains("ORDERSTREAM_WORKERS: `0`"),
            "{errors}"
        );
        let needs_servers = matches!(command, "serve" | "work");
        assert_eq!(errors.contains("_URL: not set"), needs_servers, "{command}: {errors}");
    }
}

#[test]
fn what_several_partitions_do_not_go_with_is_78() {
    let redis = ("REDIS_URL", "redis://127.0.0.1:1");
    let warehouse = ("DATABASE_URL", "postgres://u@127.0.0.1:1/d");
    let shop = ("ORDERSTREAM_CAPTURE_DATABASE_URL", "postgres://u@127.0.0.1:1/shop");
    for (command, partitions, others, named) in [
        ("run", "2", &[][..], "a stream in a file has one partition"),
        (
            "status",
            "2",
            &[("ORDERSTREAM_STREAM", "{a}b"), redis],
            "braces in the name",
        ),
        ("run", "2", &[shop, redis, warehouse], "a capture moves its checkpoint"),
        (
            "capture",
            "2",
            &[shop, redis, warehouse],
            "a capture moves its checkpoint",
        ),
        ("run", "129", &[redis, warehouse], "ORDERSTREAM_PARTITIONS: `129`"),
    ] {
        let env = [others, &[("ORDERSTREAM_PARTITIONS", partitions)]].concat();
        let output = orderstream(&[command], &env);
        let (_, errors) = texts(&output);
        assert_eq!(output.status.code(), Some(78), "{command}: {errors}");
        assert!(
            errors.contains(named) && errors.contains("ORDERSTREAM_PARTITIONS"),
            "{command}: {errors}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_a_partition_that_no_worker_reads() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    for command in [
        &[
            "XGROUP",
            "CREATE",
            "{orders_stream:3.426}",
            "pipeline_workers",
            "0",
            "MKSTREAM",
        ][..],
        &[
            "XADD",
            "{orders_stream:3.426}",
            "*",
            "event_id",
            "late",
            "payload",
            "{}",
        ],
    ] {
        redis.command::<redis::Value>(command).await;
    }
    let warning = "`{orders_stream:3.426}` holds events that no worker reads: set ORDERSTREAM_PARTITIONS=4";
    for (partitions, warns) in [(None, true), (Some("3"), true), (Some("4"), false)] {
        let set = partitions.map(|partitions| ("ORDERSTREAM_PARTITIONS", partitions));
        let env = Vec::from_iter([("REDIS_URL", url.as_str())].into_iter().chain(set));
        let (found, _) = texts(&orderstream(&["check"], &env));
        assert_eq!(found.contains(warning), warns, "{partitions:?}: {found}");
    }
}

#[test]
fn no_secret_is_printed() {
    let env = [
        ("REDIS_URL", "redis://user:hunter2@127.0.0.1:1/"),
        ("DATABASE_URL", "postgres://user:hunter2@127.0.0.1:1/shop"),
        ("ORDERSTREAM_MIGRATE_DATABASE_URL", "hunter2"),
        ("ORDERSTREAM_SHOPIFY_SECRETS", "hunter2"),
        ("ORDERSTREAM_API_TOKENS", "hunter2"),
        ("ORDERSTREAM_ADMIN_TOKEN", "hunter2"),
    ];
    for skip in [2, 6] {
        let env: Vec<_> = env
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != skip)
            .map(|(_, pair)| *pair)
            .collect();
        for args in [&["check"][..], &["check", "--json"], &["status"], &["migrate"]] {
            let output = orderstream(args, &env);
            let (out, errors) = texts(&output);
            assert!(matches!(output.status.code(), Some(69 | 78)), "{args:?}: {out}{errors}");
            assert!(
                !out.contains("hunter2") && !errors.contains("hunter2"),
                "{args:?}: {out}{errors}"
            );
        }
    }
}

#[test]
fn check_names_the_remedy_and_an_unknown_name() {
    let services = [
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("DATABASE_URL", "postgres://u@127.0.0.1:1/d"),
    ];
    let output = orderstream(&["check"], &services);
    let (found, _) = texts(&output);
    assert_eq!(output.status.code(), Some(69), "{found}");
    assert!(
        found.contains("✗ redis: ") && found.contains("✗ postgresql: ") && found.contains("→ "),
        "{found}"
    );
    let typo = [&services[..], &[("ORDERSTREAM_STREM", "x")]].concat();
    let output = orderstream(&["check", "--json"], &typo);
    let (found, _) = texts(&output);
    assert_eq!(output.status.code(), Some(78), "{found}");
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    let unknown = found["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["what"] == "environment")
        .unwrap();
    assert!(
        unknown["detail"]
            .as_str()
            .unwrap()
            .ends_with("did you mean ORDERSTREAM_STREAM?")
    );
}

#[test]
fn health_of_nobody_is_69() {
    let output = orderstream(&["health"], &[("ORDERSTREAM_LISTEN_ADDR", "127.0.0.1:1")]);
    assert_eq!(output.status.code(), Some(69));
    assert_eq!(
        texts(&output).1,
        "orderstream: nothing listens at http://127.0.0.1:1/health\n"
    );
    let output = orderstream(&["health", "work"], &[]);
    assert!(texts(&output).1.contains("ORDERSTREAM_ADMIN_ADDR"));
}

#[test]
fn send_without_secret_or_instance_says_so() {
    let output = orderstream(&["send"], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(texts(&output).1.contains("no secret to sign with"));
    let args = [
        "send",
        "--secret",
        "s",
        "--url",
        "http://127.0.0.1:1",
        "--count",
        "10000",
        "--json",
    ];
    let output = orderstream(&args, &[]);
    let (summary, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(69));
    assert!(
        errors.contains("nothing answers at http://127.0.0.1:1/webhooks/orders"),
        "{errors}"
    );
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["answers"]["unreachable"], summary["sent"]);
    assert!(
        summary["sent"].as_u64().unwrap() < 10_000,
        "it gives up where nothing answers at all"
    );
}

#[tokio::test]
async fn status_is_for_people_and_for_programs() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let env = [("REDIS_URL", url.as_str())];
    let output = orderstream(&["status"], &env);
    let (report, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(
        report.contains("stream length        0") && report.contains("lag                  –"),
        "{report}"
    );
    let output = orderstream(&["status", "--json"], &env);
    let report: serde_json::Value = serde_json::from_str(&texts(&output).0).unwrap();
    assert_eq!((&report["stream_length"], report["lag"].is_null()), (&0.into(), true));
}

#[tokio::test]
async fn check_and_migrate_reach_real_services() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let database = Database::empty().await;
    let warehouse = database.url();
    let env = [("REDIS_URL", url.as_str()), ("DATABASE_URL", warehouse.as_str())];
    let output = orderstream(&["check"], &env);
    let (found, _) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{found}");
    assert!(
        found.contains("version 0 of 10; `run` and `work` bring them up to date"),
        "{found}"
    );
    let output = orderstream(&["migrate"], &env);
    let (said, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(said.starts_with("schema orderstream: version 0 → "), "{said}");
    assert!(texts(&orderstream(&["migrate"], &env)).0.contains("nothing to do"));
    let output = orderstream(&["check"], &env);
    let (found, _) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{found}");
    assert!(
        found.contains("✓ redis: ") && found.contains("✓ postgresql: "),
        "{found}"
    );
    let output = orderstream(&["check", "serve"], &env[..1]);
    assert_eq!(output.status.code(), Some(0), "{}", texts(&output).0);
}

#[tokio::test]
async fn what_only_an_operator_can_mend_is_78() {
    let redis = RedisServer::start().await;
    let database = Database::empty().await;
    let _: () = redis.command(&["SET", "orders_stream", "something else"]).await;
    let output = orderstream(&["status"], &[("REDIS_URL", &redis.url())]);
    assert_eq!(output.status.code(), Some(78), "{}", texts(&output).1);
    let nobody = database.url().replace("postgres@", "nobody@");
    let output = orderstream(&["migrate"], &[("DATABASE_URL", &nobody)]);
    assert_eq!(output.status.code(), Some(78), "{}", texts(&output).1);
    for (command, name, url) in [
        ("status", "REDIS_URL", "redis://127.0.0.1:1"),
        ("migrate", "DATABASE_URL", "postgres://u@127.0.0.1:1/d"),
    ] {
        let output = orderstream(&[command], &[(name, url)]);
        assert_eq!(output.status.code(), Some(69), "{}", texts(&output).1);
    }
}

#[tokio::test]
async fn a_reader_that_has_enough_ends_nothing() {
    let redis = RedisServer::start().await;
    let database = Database::migrated().await;
    let (url, warehouse) = (redis.url(), database.url());
    let env = [("REDIS_URL", url.as_str()), ("DATABASE_URL", warehouse.as_str())];
    for args in [
        &["--help"][..],
        &["--version"],
        &["status"],
        &["status", "--json"],
        &["migrate"],
        &["check"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program(args, &env).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), &*texts(&output).1), (Some(0), ""), "{args:?}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let send = ["send", "--secret", "s", "--url", "http://127.0.0.1:1"];
    let output = program(&send, &[]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", texts(&output).1);
}

#[test]
fn a_result_that_cannot_be_written_is_said() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = program(&["check"], &[]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(
        texts(&output).1.contains("cannot write the result"),
        "{}",
        texts(&output).1
    );
}

#[tokio::test]
async fn local_mode_needs_no_secret_and_send_picks_it_up() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let names = [
        "ORDERSTREAM_SHOPIFY_SECRETS",
        "ORDERSTREAM_API_TOKENS",
        "ORDERSTREAM_ADMIN_TOKEN",
    ];
    let bare = names
        .iter()
        .fold(site.settings(), |settings, name| settings.with(name, ""));
    let service = Service::start("run", &bare.with("ORDERSTREAM_DATA_DIR", data_dir)).await;
    let base = service.url("").trim_end_matches('/').to_owned();
    let send = |more: &[&str]| {
        let args = [
            &["send", "--data-dir", data_dir, "--url", &base, "--json", "--seed", "7"],
            more,
        ]
        .concat();
        let output = orderstream(&args, &[]);
        let (summary, errors) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "{summary}{errors}");
        serde_json::from_str::<serde_json::Value>(&summary).unwrap()
    };
    assert_eq!(send(&["--count", "20"])["answers"], json!({"200 accepted": 20}));
    assert_eq!(
        send(&["--count", "20", "--rate", "500"])["answers"],
        json!({"200 duplicate": 20})
    );
    for topic in ["orders/updated", "orders/cancelled", "refunds/create", "orders/delete"] {
        assert_eq!(
            send(&["--count", "5", "--topic", topic])["answers"],
            json!({"200 accepted": 5}),
            "{topic}"
        );
    }
    site.has_rows(40).await;
    assert_eq!(site.dead_letters().await, 0);
    let addr = base.trim_start_matches("http://");
    assert_eq!(
        orderstream(&["health", "--listen-addr", addr], &[]).status.code(),
        Some(0)
    );
    let secrets = std::fs::read_to_string(folder.path().join("local-secrets.toml")).unwrap();
    let secret = secrets.split('"').nth(1).unwrap();
    let log = service.stderr();
    assert!(
        log.contains("orderstream send --data-dir") && !log.contains(secret),
        "{log}"
    );
}

#[test]
fn help_is_about_the_command() {
    let commands = [
        "run",
        "serve",
        "work",
        "send",
        "check",
        "migrate",
        "dead-letters",
        "trace",
        "replay",
        "rebuild",
        "pause",
        "resume",
        "forget",
        "drain",
        "status",
        "tail",
        "health",
    ];
    for command in commands {
        let (short, _) = texts(&orderstream(&[command, "-h"], &[]));
        assert!(
            !short.contains("--redis-url") && short.lines().count() <= 45,
            "{command}: {short}"
        );
    }
    for (args, shown, hidden) in [
        (&["migrate"][..], "--database-url", "--redis-url"),
        (&["serve"], "--shopify-secrets", "--database-url"),
        (&["work"], "--database-url", "--shopify-secrets"),
        (&["status"], "--health-lag-warning", "--shopify-secrets"),
        (&["dead-letters", "list"], "--dead-letter-stream", "--database-url"),
        (&["health"], "--admin-addr", "--redis-url"),
        (&["capture", "init"], "--capture-database-url", "--redis-url"),
        (&["capture", "drop"], "--redis-url", "--health-lag-warning"),
        (&["capture"], "--health-lag-warning", "--shopify-secrets"),
        (&["run"], "--shopify-secrets", "--nothing-is-hidden"),
    ] {
        let (help, _) = texts(&orderstream(&[args, &["--help"]].concat(), &[]));
        assert!(help.contains(shown) && !help.contains(hidden), "{args:?}: {help}");
    }
    // What a command does not read it takes all the same, before it and behind it.
    for args in [
        &["--redis-url", "redis://h", "migrate"][..],
        &["migrate", "--redis-url", "redis://h"],
    ] {
        assert_eq!(
            orderstream(args, &[]).status.code(),
            Some(78),
            "{args:?}: there is no warehouse"
        );
    }
}

/// Before it looks for anything that could be replayed.
#[test]
fn a_replay_is_told_what_and_confirmed() {
    for (args, missing) in [
        (&["replay"][..], "--all"),
        (&["replay", "--yes"], "--all"),
        (&["replay", "--all"], "--yes"),
        (&["replay", "--from", "2026-01-01"], "--yes"),
        (&["replay", "--all", "--to", "2026-01-01", "--yes"], "--all"),
    ] {
        let output = orderstream(args, &[]);
        let (out, errors) = texts(&output);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {out}{errors}");
        assert!(
            out.is_empty() && errors.matches("error:").count() == 1,
            "{args:?}: {errors}"
        );
        assert!(errors.contains(missing), "{args:?}: {errors}");
    }
    for args in [&["replay", "--all", "--yes"][..], &["replay", "--dry-run"]] {
        assert_eq!(
            orderstream(args, &[]).status.code(),
            Some(69),
            "{args:?}: there is nothing to look at"
        );
    }
}

#[test]
fn an_open_address_without_secrets_is_refused() {
    let env = [("REDIS_URL", "redis://127.0.0.1:1"), ("PORT", "8080")];
    let output = orderstream(&["serve"], &env);
    let (_, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(78), "{errors}");
    assert!(
        errors.contains("ORDERSTREAM_SHOPIFY_SECRETS") && errors.contains("ORDERSTREAM_API_TOKENS"),
        "{errors}"
    );
}
