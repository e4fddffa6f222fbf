//! What the logs say, and what they must not.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use orderstream::config::{LogConfig, LogFormat};
use orderstream::telemetry;

use crate::harness::redis::RedisServer;
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;

#[test]
fn a_panic_is_logged_with_its_place_and_without_its_message() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "telemetry::panic_over_content", "--ignored", "--nocapture"])
        .env("TESTS_PANIC", "1")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let line = log.lines().find(|line| line.contains("a panic")).unwrap_or_default();
    assert!(line.contains("tests/suite/telemetry.rs:"), "{log}");
    assert!(!log.contains("personal@example.com"), "{log}");
}

#[ignore = "not a test: the process of `a_panic_is_logged_with_its_place_and_without_its_message`"]
#[test]
fn panic_over_content() {
    if std::env::var_os("TESTS_PANIC").is_none() {
        return;
    }
    let _logs = telemetry::start(&LogConfig {
        format: LogFormat::Text,
        filter: "info".to_owned(),
    });
    let ended = std::thread::spawn(|| panic!("cannot parse personal@example.com")).join();
    assert!(ended.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn that_it_is_up_is_said_at_every_level() {
    let redis = RedisServer::start().await;
    let settings = Settings::new(&redis.url(), "");
    for filter in ["warn", "orderstream=error", "off"] {
        // Comes back only when that line was read.
        let mut service = Service::start("serve", &settings.with("RUST_LOG", filter)).await;
        service.signal(Signal::SIGTERM);
        assert!(service.ended(PATIENCE).await.success());
        let log = service.stderr();
        assert_eq!(log.matches(" INFO ").count(), 1, "{filter}: {log}");
    }
}
