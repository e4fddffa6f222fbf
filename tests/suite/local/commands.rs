//! What the other commands say of a data folder: while a process has it, and while none does.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::local::Local;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

/// Exit code and all that was printed.
fn fails(local: &Local, args: &[&str]) -> (Option<i32>, String) {
    let output = local.run(args);
    let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), out + &errors)
}

#[tokio::test(flavor = "multi_thread")]
async fn status_asks_the_owner_or_the_file() {
    let local = Local::new();
    let (code, said) = fails(&local, &["status"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("REDIS_URL is not set") && said.contains("stream.db"),
        "{said}"
    );
    assert!(!local.data_dir().exists(), "asking makes nothing");

    let mut service = Service::start("run", &local.bare()).await;
    local.succeeds(&["send", "--json", "--count", "7"]);
    local.has_rows(7).await;
    service.settled(7).await;
    let report = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let asked = report(local.succeeds(&["status", "--json"]));
    assert_eq!(
        (&asked["stream_length"], &asked["lag"]),
        (&7.into(), &0.into()),
        "{asked}"
    );
    let status = local.succeeds(&["status"]);
    assert!(status.contains("stream length        7"), "{status}");
    assert!(status.contains("oldest backlog       none"), "{status}");
    assert_eq!(local.run(&["health"]).status.code(), Some(0), "it finds the port");
    let told = local.run(&["health", "--listen-addr", "127.0.0.1:1", "run"]);
    assert_eq!(told.status.code(), Some(69), "an address that is given counts");
    assert_eq!(
        local.run(&["health", "--listen-addr", "127.0.0.1:0"]).status.code(),
        Some(0)
    );

    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    assert!(
        !local.data_dir().join("stream.db-wal").exists(),
        "closed before the end"
    );
    let found = report(local.succeeds(&["status", "--json"]));
    for figure in [
        "stream_length",
        "lag",
        "pending_count",
        "dead_letters",
        "last_delivered_id",
    ] {
        assert_eq!(found[figure], asked[figure], "{figure}");
    }
    assert_eq!(
        local.run(&["health", "--listen-addr", "127.0.0.1:0"]).status.code(),
        Some(69),
        "nobody is there any more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_right_after_send_knows_of_it() {
    let local = Local::new();
    let _service = Service::start("run", &local.bare()).await;
    for sent in 1..=3 {
        local.succeeds(&["send", "--json"]);
        let report: Value = serde_json::from_str(&local.succeeds(&["status", "--json"])).unwrap();
        assert_eq!(report["stream_length"], sent, "{report}");
        assert!(report["last_accepted_seconds"].is_number(), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_looks_at_the_folder_and_its_files() {
    let local = Local::new();
    let fresh = local.succeeds(&["check"]);
    for line in [
        "✓ data folder: ",
        "✓ embedded stream: stream.db is made",
        "✓ embedded warehouse: warehouse.db is made",
    ] {
        assert!(fresh.contains(line), "{fresh}");
    }
    let mut service = Service::start("run", &local.bare()).await;
    local.succeeds(&["send", "--json"]);
    local.has_rows(1).await;
    let running = local.succeeds(&["check"]);
    assert!(
        running.contains(&format!("✓ data folder: in use by process {}", service.pid())),
        "{running}"
    );
    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    let stopped = local.succeeds(&["check"]);
    assert!(stopped.contains("✓ embedded stream: "), "{stopped}");
    assert!(
        stopped.contains("✓ embedded warehouse: ") && stopped.contains("version"),
        "{stopped}"
    );

    for purpose in ["serve", "work"] {
        let (code, said) = fails(&local, &["check", purpose]);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("REDIS_URL: not set"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_stream_is_left_to_the_process_that_runs_on_it() {
    let local = Local::new();
    let mut service = Service::start("run", &local.bare()).await;
    local.succeeds(&["send", "--json", "--count", "3"]);
    local.has_rows(3).await;
    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    let file = local.data_dir().join("stream.db");
    let damaged = [b"no database, ".as_slice(), &std::fs::read(&file).unwrap()[13..]].concat();
    std::fs::write(&file, &damaged).unwrap();
    // The process may end before SQLite has removed its log, which would hide the damage.
    for log in ["stream.db-wal", "stream.db-shm"] {
        let _ = std::fs::remove_file(local.data_dir().join(log));
    }

    for (args, mark) in [(&["check"][..], "✗ embedded stream: "), (&["status"], "is damaged")] {
        let (code, said) = fails(&local, args);
        assert_eq!(code, Some(78), "{said}");
        assert!(
            said.contains(mark) && said.contains("`orderstream run` sets it aside"),
            "{said}"
        );
    }
    assert!(std::fs::read(&file).unwrap() == damaged, "looking changes nothing");

    let service = Service::start("run", &local.bare()).await;
    service.says("a damaged file was set aside").await;
    local.succeeds(&["send", "--json"]);
    local.has_rows(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_makes_no_warehouse_that_nobody_asked_for() {
    let local = Local::new();
    let (code, said) = fails(&local, &["migrate"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("DATABASE_URL is not set") && said.contains("warehouse.db"),
        "{said}"
    );
    assert!(!local.data_dir().exists());

    let mut service = Service::start("run", &local.bare()).await;
    local.succeeds(&["send", "--json"]);
    local.has_rows(1).await;
    let running = local.succeeds(&["migrate"]);
    assert!(
        running.contains(&format!("in use by process {}", service.pid())),
        "{running}"
    );
    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    let stopped = local.succeeds(&["migrate"]);
    assert!(
        stopped.contains("warehouse.db is at version") && stopped.contains("nothing to do"),
        "{stopped}"
    );
}

#[test]
fn serve_and_work_say_why_they_need_servers() {
    let local = Local::new();
    for command in ["serve", "work"] {
        let (code, said) = fails(&local, &[command]);
        assert_eq!(code, Some(78), "{said}");
        assert!(
            said.contains("REDIS_URL: not set") && said.contains("`orderstream run`"),
            "{said}"
        );
    }
    assert!(!local.data_dir().exists());
}
