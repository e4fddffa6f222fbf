//! The ways in which Redis says no.

use orderstream::config::StreamConfig;
use orderstream::stream::Stream;

use super::*;

/// The error's code, and whether it is known that nothing was stored.
fn refusal(error: &StreamError) -> (&str, bool) {
    match error {
        StreamError::Refused { code, .. } => (code, error.is_refused()),
        other => panic!("not a refusal: {other:?}"),
    }
}

#[tokio::test]
async fn out_of_memory_is_a_refusal_and_passes() {
    let server = RedisServer::start().await;
    for dedupe_window in [stream_config().dedupe_window, None] {
        server.command::<()>(&["FLUSHALL"]).await;
        let config = StreamConfig {
            dedupe_window,
            ..stream_config()
        };
        let stream = RedisStream::new(&server.config(), &config, Metrics::new()).unwrap();
        let mut writer = stream.writer();
        accepted(&writer.append(&[entry(0)]).await.unwrap()[0]);
        server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
        // Script and plain XADDs alike, whole flushes of several script calls too.
        for flush in [vec![entry(1)], (1..600).map(entry).collect()] {
            let error = writer.append(&flush).await.unwrap_err();
            assert_eq!(refusal(&error), ("OOM", true));
            assert!(error.to_string().contains("maxmemory"), "{error}");
        }
        assert_eq!(refusal(&stream.confirm_writable().await.unwrap_err()), ("OOM", true));
        server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
        stream.confirm_writable().await.unwrap();
        accepted(&writer.append(&[entry(1)]).await.unwrap()[0]);
    }
}

#[tokio::test]
async fn a_replica_refuses_until_it_is_the_primary() {
    let server = RedisServer::start().await;
    let stream = open(&server.config());
    let mut writer = stream.writer();
    accepted(&writer.append(&[entry(0)]).await.unwrap()[0]);
    server.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_eq!(
        refusal(&writer.append(&[entry(1)]).await.unwrap_err()),
        ("READONLY", true)
    );
    assert_eq!(
        refusal(&stream.confirm_writable().await.unwrap_err()),
        ("READONLY", true)
    );
    server
        .command::<()>(&["CONFIG", "SET", "replica-serve-stale-data", "no"])
        .await;
    assert_eq!(
        refusal(&writer.append(&[entry(1)]).await.unwrap_err()),
        ("MASTERDOWN", true)
    );
    server.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    accepted(&writer.append(&[entry(1)]).await.unwrap()[0]);
}

#[tokio::test]
async fn too_few_replicas_refuse() {
    let server = RedisServer::start().await;
    server
        .command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .await;
    let stream = open(&server.config());
    assert_eq!(
        refusal(&stream.writer().append(&[entry(1)]).await.unwrap_err()),
        ("NOREPLICAS", true)
    );
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() {
    let server = RedisServer::start().await;
    let stream = open(&server.config());
    let mut writer = stream.writer();
    for round in 0..3 {
        server.command::<()>(&["SCRIPT", "FLUSH"]).await;
        let flush: Vec<_> = (round * 600..round * 600 + 600).map(entry).collect();
        let outcomes = writer.append(&flush).await.unwrap();
        assert!(outcomes.iter().map(accepted).is_sorted());
    }
    server.command::<()>(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(stream.report().await.unwrap().length, 1800);
}

#[tokio::test]
async fn one_bad_entry_does_not_stop_its_neighbours() {
    let server = RedisServer::start().await;
    server
        .command::<()>(&["LPUSH", "orders_stream:dedupe:key-2", "x"])
        .await;
    server
        .command::<()>(&["SET", "orders_stream:dedupe:key-3", "of somebody else"])
        .await;
    let stream = open(&server.config());
    let mut writer = stream.writer();
    let outcomes = writer.append(&[entry(1), entry(2), entry(3), entry(4)]).await.unwrap();
    accepted(&outcomes[0]);
    assert!(
        matches!(&outcomes[1], Appended::Refused(text) if text.starts_with("WRONGTYPE")),
        "{outcomes:?}"
    );
    assert!(matches!(&outcomes[2], Appended::Refused(_)), "{outcomes:?}");
    accepted(&outcomes[3]);
}

#[tokio::test]
async fn a_key_that_is_no_stream_is_unusable() {
    let server = RedisServer::start().await;
    server.command::<()>(&["SET", "orders_stream", "x"]).await;
    let stream = open(&server.config());
    for error in [
        stream.writer().append(&[entry(1)]).await.unwrap_err(),
        stream.ensure_group().await.unwrap_err(),
        stream.report().await.unwrap_err(),
        stream.trim().await.unwrap_err(),
    ] {
        assert!(matches!(error, StreamError::Unusable(_)), "{error:?}");
        assert!(error.to_string().contains("ORDERSTREAM_STREAM"), "{error}");
    }
}

#[tokio::test]
async fn keys_beside_the_stream_do_not_stay_for_ever() {
    let server = RedisServer::start().await;
    let stream = open(&server.config());
    let id = accepted(&stream.writer().append(&[entry(1)]).await.unwrap()[0]);
    stream.record(id, orderstream::stream::Step::Begin(1)).await.unwrap();
    stream.confirm_writable().await.unwrap();
    let six_hours = server.command::<i64>(&["PTTL", "orders_stream:dedupe:key-1"]).await;
    assert!((1..=6 * 3600 * 1000).contains(&six_hours), "{six_hours}");
    for key in ["orders_stream:attempts:pipeline_workers", "orders_stream:probe"] {
        assert!(server.command::<i64>(&["PTTL", key]).await > 0, "{key}");
    }
}
