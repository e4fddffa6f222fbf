//! `ORDERSTREAM_DURABILITY`: nothing is confirmed that the server has not proven to be as durable as is asked for.

use orderstream::config::Durability;
use orderstream::stream::Stream;

use super::*;
use crate::harness::eventually;
use crate::harness::redis::RedisOptions;
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;

fn asking(server: &RedisServer, durability: Durability) -> RedisStream {
    open(&RedisConfig {
        durability,
        ..server.config()
    })
}

async fn durable(tcp: bool) -> RedisServer {
    RedisServer::start_with(RedisOptions {
        tcp,
        durable: !tcp,
        ..RedisOptions::default()
    })
    .await
}

async fn knows_waitaof(server: &RedisServer) -> bool {
    server
        .try_command::<redis::Value>(&["WAITAOF", "0", "0", "1"])
        .await
        .is_ok()
}

fn unusable(error: &StreamError, remedy: &str) {
    assert!(matches!(error, StreamError::Unusable(_)), "{error:?}");
    assert!(error.to_string().contains(remedy), "{error}");
}

#[tokio::test]
async fn fsynced_is_proven_by_a_file_that_is_synced() {
    let server = durable(false).await;
    let stream = asking(&server, Durability::Fsynced);
    stream.inspect().await.unwrap();
    let mut writer = stream.writer();
    let id = accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
    assert_eq!(writer.try_append(&[entry(1)]).await.unwrap(), [Appended::Duplicate(id)]);

    // Each second is enough only where the server can be waited for.
    server
        .command::<()>(&["CONFIG", "SET", "appendfsync", "everysec"])
        .await;
    let everysec = asking(&server, Durability::Fsynced);
    let appended = everysec.writer().try_append(&[entry(2)]).await;
    if knows_waitaof(&server).await {
        accepted(&appended.unwrap()[0]);
    } else {
        unusable(&appended.unwrap_err(), "set appendfsync to always");
        unusable(&everysec.inspect().await.unwrap_err(), "set appendfsync to always");
        assert_eq!(server.command::<u64>(&["XLEN", "orders_stream"]).await, 1);
    }
}

#[tokio::test]
async fn settings_that_change_while_a_connection_is_held_are_noticed() {
    let server = durable(false).await;
    let metrics = Metrics::new();
    let config = RedisConfig {
        durability: Durability::Fsynced,
        ..server.config()
    };
    let stream = RedisStream::new(&config, &stream_config(), metrics.clone()).unwrap();
    let mut writer = stream.writer();
    accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
    stream.confirm_writable(0).await.unwrap();
    server.command::<()>(&["CONFIG", "SET", "appendfsync", "no"]).await;
    let error = writer.try_append(&[entry(2)]).await.unwrap_err();
    // Where WAITAOF is known, its proof may still come in time; then nothing is wrong.
    if !knows_waitaof(&server).await {
        assert!(matches!(error, StreamError::Unconfirmed(_)), "{error:?}");
        assert!(
            metrics
                .encode()
                .unwrap()
                .contains("orderstream_flushes_unproven_total 1")
        );
        unusable(&writer.try_append(&[entry(2)]).await.unwrap_err(), "set appendfsync to");
    }
    unusable(&stream.confirm_writable(0).await.unwrap_err(), "set appendfsync to");
    server.command::<()>(&["CONFIG", "SET", "appendfsync", "always"]).await;
    let again = writer.try_append(&[entry(2)]).await.unwrap();
    assert!(matches!(again[..], [Appended::Duplicate(_)]), "{again:?}");
    stream.confirm_writable(0).await.unwrap();
}

#[tokio::test]
async fn a_server_that_comes_back_without_its_file_is_refused() {
    let server = durable(false).await;
    let stream = asking(&server, Durability::Fsynced);
    let mut writer = stream.writer();
    accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
    server.command::<()>(&["CONFIG", "SET", "appendonly", "no"]).await;
    server.command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    let refused = eventually("it is asked again", PATIENCE, async || {
        let error = writer.try_append(&[entry(2)]).await.unwrap_err();
        matches!(error, StreamError::Unusable(_)).then_some(error)
    })
    .await;
    unusable(&refused, "set appendonly to yes");
    assert_eq!(server.command::<u64>(&["XLEN", "orders_stream"]).await, 1);
    server.command::<()>(&["CONFIG", "SET", "appendonly", "yes"]).await;
    accepted(&writer.try_append(&[entry(2)]).await.unwrap()[0]);
}

#[tokio::test]
async fn replicated_waits_for_the_replicas() {
    let (primary, replica) = (durable(true).await, durable(true).await);
    let config = RedisConfig {
        durability: Durability::Replicated(1),
        // Three quarters of it are the replicas'.
        response_timeout: Duration::from_secs(4),
        ..primary.config()
    };
    let metrics = Metrics::new();
    let stream = RedisStream::new(&config, &stream_config(), metrics.clone()).unwrap();
    let mut writer = stream.writer();
    for error in [
        writer.try_append(&[entry(1)]).await.unwrap_err(),
        stream.confirm_writable(0).await.unwrap_err(),
    ] {
        assert!(
            error.is_refused() && error.to_string().contains("has 0 replicas connected"),
            "{error:?}"
        );
    }
    assert_eq!(primary.command::<u64>(&["XLEN", "orders_stream"]).await, 0);

    replica.follow(&primary).await;
    accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
    assert_eq!(replica.command::<u64>(&["XLEN", "orders_stream"]).await, 1);

    // Connected, and silent.
    replica.stall();
    let error = writer.try_append(&[entry(2)]).await.unwrap_err();
    assert!(
        matches!(error, StreamError::Unconfirmed(_)) && !error.is_refused(),
        "{error:?}"
    );
    assert_eq!(
        primary.command::<u64>(&["XLEN", "orders_stream"]).await,
        2,
        "stored all the same"
    );
    let again = writer.try_append(&[entry(2)]).await.unwrap_err();
    assert!(
        matches!(again, StreamError::Unconfirmed(_)),
        "nor is a duplicate confirmed: {again:?}"
    );
    assert!(
        metrics
            .encode()
            .unwrap()
            .contains("orderstream_flushes_unproven_total 2"),
        "{}",
        metrics.encode().unwrap()
    );
    replica.resume();
    let outcomes = eventually("the replica is in step", PATIENCE, async || {
        writer.try_append(&[entry(2)]).await.ok()
    })
    .await;
    assert!(matches!(outcomes[..], [Appended::Duplicate(_)]), "{outcomes:?}");
    assert_eq!(replica.command::<u64>(&["XLEN", "orders_stream"]).await, 2);
}

#[tokio::test]
async fn without_dedupe_the_proof_is_asked_for_too() {
    let (primary, replica) = (durable(true).await, durable(true).await);
    replica.follow(&primary).await;
    let config = RedisConfig {
        durability: Durability::Replicated(1),
        // Three quarters of it are the replicas'.
        response_timeout: Duration::from_secs(4),
        ..primary.config()
    };
    let plain = StreamConfig {
        dedupe_window: None,
        ..stream_config()
    };
    let stream = RedisStream::new(&config, &plain, Metrics::new()).unwrap();
    let mut writer = stream.writer();
    // The second flush is of plain XADDs.
    for n in 0..2 {
        accepted(&writer.try_append(&[entry(n)]).await.unwrap()[0]);
    }
    replica.stall();
    let error = writer.try_append(&[entry(2)]).await.unwrap_err();
    assert!(matches!(error, StreamError::Unconfirmed(_)), "{error:?}");
    replica.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_is_refused_at_start_and_by_check() {
    let server = RedisServer::start().await;
    let settings = Settings::new(&server.url(), "postgres://nobody@127.0.0.1:1/none");
    let settings = settings.with("ORDERSTREAM_DURABILITY", "fsynced");
    for words in [&["serve"][..], &["check", "serve"]] {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_orderstream"));
        program.args(words);
        let mut service = Service::spawn(program, &settings);
        let code = eventually("it ends", PATIENCE, async || service.exit_code()).await;
        assert_eq!(code, 78, "{words:?}: {}", service.stderr());
        if words == ["serve"] {
            assert!(
                service.stderr().contains("set appendonly to yes"),
                "{}",
                service.stderr()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_replicas_are_waited_for_and_check_and_health_say_so() {
    let (primary, replica) = (durable(true).await, durable(true).await);
    let settings = Settings::new(&primary.url(), "postgres://nobody@127.0.0.1:1/none");
    let settings = settings.with("ORDERSTREAM_DURABILITY", "replicated:1");
    let check = settings.command(&["check", "serve"]).output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(69), "{said}");
    let why = "has 0 replicas connected, and ORDERSTREAM_DURABILITY asks for 1";
    assert!(said.contains(why), "{said}");

    let service = Service::start("serve", &settings).await;
    eventually("health says why nothing is confirmed", PATIENCE, async || {
        let answer = service.get(&service.url("/health")).await.unwrap();
        let refused = answer.status() == 503;
        (refused && answer.text().await.unwrap().contains(why)).then_some(())
    })
    .await;
    assert_eq!(service.deliver_order(1).await, Some(503));
    replica.follow(&primary).await;
    eventually("orders are taken", PATIENCE, async || {
        (service.deliver_order(1).await == Some(200)).then_some(())
    })
    .await;
    let check = settings.command(&["check", "serve"]).output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(said.contains("takes writes"), "{said}");
}
