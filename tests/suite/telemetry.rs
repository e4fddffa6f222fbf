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

/// What stands in an event makes no line of its own, and does nothing on a terminal.
#[test]
fn an_event_is_one_line_whatever_it_holds() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "telemetry::events_with_text_from_outside",
            "--ignored",
            "--nocapture",
        ])
        .env("TESTS_LOG", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let lines = Vec::from_iter(
        log.lines()
            .filter(|line| line.contains("order of ") || line.contains("FORGED")),
    );
    assert_eq!(lines.len(), 2, "{log}");
    for line in lines {
        assert!(line.contains("order of #1") && line.contains("FORGED"), "{line}");
        assert!(!line.contains(EVIL), "{line:?}");
    }
}

/// A name that forges a line, moves the cursor and turns the direction of text.
const EVIL: [char; 8] = [
    '\r', '\u{1b}', '\u{85}', '\u{2028}', '\u{202e}', '\u{2066}', '\u{9b}', '\n',
];

#[ignore = "not a test: the process of `an_event_is_one_line_whatever_it_holds`"]
#[test]
fn events_with_text_from_outside() {
    if std::env::var_os("TESTS_LOG").is_none() {
        return;
    }
    let _logs = telemetry::start(&LogConfig {
        format: LogFormat::Text,
        filter: "info".to_owned(),
    });
    let name = format!("#1{}ERROR FORGED", String::from_iter(EVIL));
    tracing::warn!("order of {name}");
    tracing::warn!(%name, "order of #1");
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
