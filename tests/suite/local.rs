//! With nothing configured: no server, no secret, nothing lost. Over the real binary, compared with the warehouse file.

mod commands;
mod killed;
mod removed;

use nix::sys::signal::Signal;

use crate::harness::local::Local;
use crate::harness::service::{SECRET, Service};
use crate::harness::site::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_order_needs_nothing_but_the_line_that_is_printed() {
    let local = Local::new();
    let mut service = Service::start("run", &local.bare().with("HOME", "/nonexistent")).await;
    let greeting = service.says("Send a first order").await;
    let folder = local.data_dir().canonicalize().unwrap();
    for part in [
        &service.url("/webhooks/orders"),
        service.admin_url("").as_str(),
        folder.to_str().unwrap(),
        "stream.db, warehouse.db",
    ] {
        assert!(greeting.contains(part), "{part} is not in: {greeting}");
    }
    assert!(!greeting.contains('\u{1b}'), "no terminal, no colours: {greeting}");
    let secrets = std::fs::read_to_string(folder.join("local-secrets.toml")).unwrap();
    for secret in secrets.split('"').skip(1).step_by(2) {
        assert!(!greeting.contains(secret));
    }

    let line = greeting.lines().find(|line| line.ends_with(" send")).unwrap().trim();
    assert_eq!(line, format!("{} send", env!("CARGO_BIN_EXE_orderstream")));
    let sent = local.succeeds(&["send", "--json", "--count", "25", "--seed", "3"]);
    assert!(sent.contains(r#"{"200 accepted":25}"#), "{sent}");
    let sent = local.succeeds(&["send", "--json", "--count", "25", "--seed", "3"]);
    assert!(sent.contains(r#"{"200 duplicate":25}"#), "{sent}");

    local.has_rows(25).await;
    assert_eq!(local.sql("SELECT count(*) FROM orders"), ["25"]);
    let sales: i64 = local.sql("SELECT sum(orders) FROM daily_sales")[0].parse().unwrap();
    assert_eq!(sales, 25);
    let report = service.settled(25).await;
    assert_eq!((&report["dead_letters"], &report["consumers"]), (&0.into(), &1.into()));
    let metrics = service
        .get(&service.admin_url("/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(metrics.contains("orderstream_events_loaded_total 25"), "{metrics}");

    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    assert!(service.stderr().contains("all work is finished"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_owner_who_is_named() {
    let local = Local::new();
    let first = Service::start("run", &local.bare()).await;
    let second = local.run(&["run", "--listen-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
    let errors = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(69), "{errors}");
    for part in [
        format!("process {}", first.pid()),
        "`orderstream run` since ".to_owned(),
        first.admin_url(""),
        local.data_dir().to_str().unwrap().to_owned(),
        "ORDERSTREAM_DATA_DIR".to_owned(),
    ] {
        assert!(errors.contains(&part), "{part} is not in: {errors}");
    }
    assert_eq!(first.get(&first.url("/livez")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_folder_that_does_not_do_is_said_with_its_remedy() {
    let local = Local::new();
    std::fs::write(local.data_dir(), "a file").unwrap();
    // With secrets and without: both want the folder.
    for settings in [local.settings(), local.bare()] {
        let output = settings.command(&["run"]).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{errors}");
        assert!(
            errors.contains("/data") && errors.contains("ORDERSTREAM_DATA_DIR"),
            "{errors}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_store_may_be_a_server_or_a_file() {
    use crate::harness::site::Site;
    let site = Site::new().await;
    let local = Local::new();
    let on_redis = Service::start("run", &local.settings().with("REDIS_URL", &site.redis.url())).await;
    assert_eq!(on_redis.deliver_order(1).await, Some(200));
    local.has_rows(1).await;
    drop(on_redis);
    assert!(!local.data_dir().join("stream.db").exists());

    let local = Local::new();
    let on_postgres = Service::start("run", &local.settings().with("DATABASE_URL", &site.database_url())).await;
    assert_eq!(on_postgres.deliver_order(2).await, Some(200));
    site.has_rows(1).await;
    on_postgres.settled(1).await;
    assert!(!local.data_dir().join("warehouse.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_secrets_again_over_files() {
    let local = Local::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "yesterday's secret").unwrap();
    let settings = local.settings().with_file("ORDERSTREAM_SHOPIFY_SECRETS", file.path());
    let service = Service::start("run", &settings).await;
    assert_eq!(service.deliver_order(1).await, Some(401));
    std::fs::write(file.path(), SECRET).unwrap();
    service.signal(Signal::SIGHUP);
    crate::harness::eventually("the new secret verifies", PATIENCE, async || {
        (service.deliver_order(2).await == Some(200)).then_some(())
    })
    .await;
}
