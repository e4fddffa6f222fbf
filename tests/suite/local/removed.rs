//! Files that somebody removes or renames under a running process: a 200 is given for nothing that nobody would find.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

fn remove(file: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("{}{suffix}", file.display());
        std::fs::remove_file(name).unwrap();
    }
}

async fn check(service: &Service, name: &str) -> (Value, String) {
    let answer = service.get(&service.url("/health")).await.unwrap();
    let report: Value = answer.json().await.unwrap();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    let detail = check.map_or("", |check| check["detail"].as_str().unwrap());
    (report["status"].clone(), detail.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_stream_takes_nothing_and_is_worked_off() {
    let local = Local::new();
    let mut service = Service::start("run", &local.settings()).await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    local.has_rows(1).await;
    let lock = rusqlite::Connection::open(local.data_dir().join("warehouse.db")).unwrap();
    lock.busy_timeout(PATIENCE).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    for id in 2..=6 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    let stream = local.data_dir().join("stream.db");
    remove(&stream);
    for id in 7..=9 {
        assert_eq!(service.deliver_order(id).await, Some(503), "nobody would find it");
    }
    eventually("health says what happened", PATIENCE, async || {
        let (status, detail) = check(&service, "stream").await;
        (status == "critical" && detail.contains("removed or renamed") && detail.contains("OPERATIONS.md"))
            .then_some(())
    })
    .await;
    drop(lock);
    // What it holds is saved by those who have it open; so is what was committed to it and not confirmed.
    eventually("it is worked off", PATIENCE, async || (local.rows() >= 6).then_some(())).await;
    assert!(!stream.exists());
    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());

    let service = Service::start("run", &local.settings()).await;
    for id in 6..=9 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    local.has_rows(9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_warehouse_is_waited_for() {
    let local = Local::new();
    let service = Service::start("run", &local.settings()).await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    local.has_rows(1).await;
    let (file, away) = (local.data_dir().join("warehouse.db"), local.data_dir().join("away.db"));
    std::fs::rename(&file, &away).unwrap();
    for id in 2..=4 {
        assert_eq!(service.deliver_order(id).await, Some(200), "the stream takes it");
    }
    eventually("health says what happened", PATIENCE, async || {
        check(&service, "warehouse")
            .await
            .1
            .contains("removed or renamed")
            .then_some(())
    })
    .await;
    assert!(!file.exists(), "none is made under its name");
    std::fs::rename(&away, &file).unwrap();
    local.has_rows(4).await;
}
