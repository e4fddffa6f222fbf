//! The ways in which Redis says no.

use std::collections::HashMap;

use orderstream::stream::{DeadLetter, Stream};
use tokio_util::sync::CancellationToken;

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
        accepted(&writer.try_append(&[entry(0)]).await.unwrap()[0]);
        server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
        // Script and plain XADDs alike, whole flushes of several script calls too.
        for flush in [vec![entry(1)], (1..600).map(entry).collect()] {
            let error = writer.try_append(&flush).await.unwrap_err();
            assert_eq!(refusal(&error), ("OOM", true));
            assert!(error.to_string().contains("maxmemory"), "{error}");
        }
        assert_eq!(refusal(&stream.confirm_writable(0).await.unwrap_err()), ("OOM", true));
        server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
        stream.confirm_writable(0).await.unwrap();
        accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
    }
}

fn sized(n: u32, bytes: usize) -> NewEntry {
    let mut entry = entry(n);
    entry.fields.push("filler", vec![b'x'; bytes]);
    entry
}

/// Redis counts the arguments of a call, so a call of 4 MiB never fits into a room of 1.2 MB, and its entries do.
#[tokio::test]
async fn a_call_that_finds_no_memory_is_sent_in_halves() {
    for dedupe_window in [stream_config().dedupe_window, None] {
        let server = RedisServer::start().await;
        let config = StreamConfig {
            dedupe_window,
            ..stream_config()
        };
        let stream = RedisStream::new(&server.config(), &config, Metrics::new()).unwrap();
        let mut writer = stream.writer();
        accepted(&writer.try_append(&[entry(0)]).await.unwrap()[0]);
        server.leave_memory(1_200_000).await;
        let outcomes = writer.try_append(&[sized(1, 3 << 20), entry(2)]).await.unwrap();
        assert!(matches!(outcomes[0], Appended::TooLarge(_)), "{outcomes:?}");
        accepted(&outcomes[1]);
        let alone = writer.try_append(&[sized(1, 3 << 20)]).await.unwrap();
        assert!(matches!(alone[0], Appended::TooLarge(_)), "{alone:?}");

        let flush: Vec<_> = (3..503).map(|n| sized(n, 8000)).collect();
        let outcomes = writer.try_append(&flush).await.unwrap();
        let stored = outcomes
            .iter()
            .filter(|one| matches!(one, Appended::Accepted(_)))
            .count();
        // 150 of them fill 1.2 MB. The arguments of the call itself take a part of that, half of it at most: of a call that
        // finds no room for twice its size, the halves do.
        assert!((50..150).contains(&stored), "{stored} were stored");
        // Which of them is a matter of what Redis frees meanwhile.
        let refused = flush.iter().zip(&outcomes);
        let refused = refused.filter(|(_, one)| matches!(one, Appended::Unavailable(_)));
        let refused: Vec<_> = refused.map(|(entry, _)| entry.clone()).collect();
        assert_eq!(stored + refused.len(), 500);
        assert_eq!(stream.report().await.unwrap().length, 2 + stored as u64);
        // Redis frees buffers of its clients in the background, which makes room for some more. Below what is stored there is
        // none for any: the flush is refused as a whole, or in parts where what is freed just then looks like room for these.
        server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
        match writer.try_append(&refused[..100]).await {
            Err(error) => assert_eq!(refusal(&error), ("OOM", true)),
            Ok(outcomes) => {
                let are_refused = outcomes.iter().all(|one| matches!(one, Appended::Unavailable(_)));
                assert!(are_refused, "{outcomes:?}");
            }
        }
        server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
        accepted(&writer.try_append(&[sized(1, 3 << 20)]).await.unwrap()[0]);
    }
}

#[tokio::test]
async fn a_replica_refuses_until_it_is_the_primary() {
    let server = RedisServer::start().await;
    let stream = open(&server.config());
    let mut writer = stream.writer();
    accepted(&writer.try_append(&[entry(0)]).await.unwrap()[0]);
    server.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_eq!(
        refusal(&writer.try_append(&[entry(1)]).await.unwrap_err()),
        ("READONLY", true)
    );
    assert_eq!(
        refusal(&stream.confirm_writable(0).await.unwrap_err()),
        ("READONLY", true)
    );
    server
        .command::<()>(&["CONFIG", "SET", "replica-serve-stale-data", "no"])
        .await;
    assert_eq!(
        refusal(&writer.try_append(&[entry(1)]).await.unwrap_err()),
        ("MASTERDOWN", true)
    );
    server.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    accepted(&writer.try_append(&[entry(1)]).await.unwrap()[0]);
}

#[tokio::test]
async fn too_few_replicas_refuse() {
    let server = RedisServer::start().await;
    server
        .command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .await;
    let stream = open(&server.config());
    assert_eq!(
        refusal(&stream.writer().try_append(&[entry(1)]).await.unwrap_err()),
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
        let outcomes = writer.try_append(&flush).await.unwrap();
        assert!(outcomes.iter().map(accepted).is_sorted());
    }
    server.command::<()>(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(stream.report().await.unwrap().length, 1800);
}

#[tokio::test]
async fn one_bad_entry_does_not_stop_its_neighbours() {
    let server = RedisServer::start().await;
    let stream = open(&server.config());
    let mut writer = stream.writer();
    let mut bad = entry(2);
    bad.fields.0.resize(3000, ("x".into(), "x".into()));
    let outcomes = writer.try_append(&[entry(1), bad.clone(), entry(3)]).await.unwrap();
    accepted(&outcomes[0]);
    accepted(&outcomes[2]);
    let alone = writer.try_append(&[bad]).await.unwrap();
    for outcome in [&outcomes[1], &alone[0]] {
        assert!(
            matches!(outcome, Appended::Refused(text) if text.contains("too many fields")),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn what_is_not_ours_in_the_place_of_dedupe_keys_costs_its_event_only_the_recognition() {
    let server = RedisServer::start().await;
    let ids = ids_key(&server).await;
    let stream = open(&server.config());
    let mut writer = stream.writer();
    for (key, foreign) in [
        (&ids, &["LPUSH", &ids, "x"][..]),
        (&ids, &["HSET", &ids, "key-2", "of somebody else"]),
    ] {
        server.command::<()>(&["DEL", key, "orders_stream"]).await;
        server.command::<()>(foreign).await;
        let outcomes = writer.try_append(&[entry(1), entry(2), entry(3)]).await.unwrap();
        let first = outcomes.iter().map(accepted).max().unwrap();
        let again = writer.try_append(&[entry(2)]).await.unwrap();
        assert!(accepted(&again[0]) > first, "stored once more");
        stream.confirm_writable(0).await.unwrap();
    }
    assert_eq!(
        server.command::<String>(&["HGET", &ids, "key-2"]).await,
        "of somebody else"
    );
    let again = writer.try_append(&[entry(3)]).await.unwrap();
    assert!(matches!(again[..], [Appended::Duplicate(_)]), "{again:?}");
    server.command::<()>(&["HDEL", &ids, "key-2"]).await;
    let mended = accepted(&writer.try_append(&[entry(2)]).await.unwrap()[0]);
    assert_eq!(
        writer.try_append(&[entry(2)]).await.unwrap(),
        [Appended::Duplicate(mended)]
    );

    server.command::<()>(&["DEL", &ids]).await;
    server.command::<()>(&["SET", &ids, "of somebody else"]).await;
    accepted(&writer.try_append(&[entry(4)]).await.unwrap()[0]);
    assert_eq!(server.command::<String>(&["GET", &ids]).await, "of somebody else");
}

#[tokio::test]
async fn a_letter_of_more_fields_than_a_script_takes_is_cut() {
    let server = RedisServer::start().await;
    let stream = open(&server.config());
    let mut add = Vec::from(["XADD", "orders_stream", "*"].map(str::to_owned));
    add.extend((0..5000).flat_map(|n| [format!("field-{n}"), "x".to_owned()]));
    add.extend([
        "event_id".to_owned(),
        "1".to_owned(),
        "payload".to_owned(),
        "{".to_owned(),
    ]);
    let add = Vec::from_iter(add.iter().map(String::as_str));
    let id: String = server.command(&add).await;
    let never = CancellationToken::new();
    stream.ensure_group().await.unwrap();
    let mut reader = stream.reader("a", 0);
    let delivered = reader.read(1, Duration::ZERO, &never).await.unwrap();
    let letter = DeadLetter {
        entry: delivered[0].entry.clone(),
        error: "no JSON".to_owned(),
        attempts: 3,
        consumer: "a".to_owned(),
    };
    assert_eq!(letter.entry.fields.0.len(), 5002);
    assert!(stream.dead_letter(&letter).await.unwrap());
    let report = stream.report().await.unwrap();
    assert_eq!((report.dead_letters, report.groups[0].pending), (1, 0));

    let letters: Vec<(String, HashMap<String, String>)> = server.command(&["XRANGE", "dead_letters", "-", "+"]).await;
    let fields = &letters[0].1;
    assert_eq!((&*fields["event_id"], &*fields["payload"]), ("1", "{"));
    assert_eq!(fields["original_id"], id);
    let left_out = 5002 - (fields.len() - 6);
    assert!(left_out > 0);
    assert_eq!(
        fields["error"],
        format!("no JSON ({left_out} fields of the entry are left out here)")
    );
}

#[tokio::test]
async fn a_key_that_is_no_stream_is_unusable() {
    let server = RedisServer::start().await;
    server.command::<()>(&["SET", "orders_stream", "x"]).await;
    let stream = open(&server.config());
    for error in [
        stream.writer().try_append(&[entry(1)]).await.unwrap_err(),
        stream.ensure_group().await.unwrap_err(),
        stream.report().await.unwrap_err(),
        stream.trim(0).await.unwrap_err(),
    ] {
        assert!(matches!(error, StreamError::UnusableKey(_)), "{error:?}");
        assert!(error.to_string().contains("ORDERSTREAM_STREAM"), "{error}");
    }
}

#[tokio::test]
async fn keys_beside_the_stream_do_not_stay_for_ever() {
    let server = RedisServer::start().await;
    let stream = open(&server.config());
    let id = accepted(&stream.writer().try_append(&[entry(1)]).await.unwrap()[0]);
    stream
        .record(id, orderstream::stream::AttemptStep::Begin(1))
        .await
        .unwrap();
    stream.confirm_writable(0).await.unwrap();
    let ids = ids_key(&server).await;
    let three_windows = server.command::<i64>(&["PTTL", &ids]).await;
    assert!((1..=3 * 6 * 3600 * 1000).contains(&three_windows), "{three_windows}");
    for key in ["orders_stream:attempts:pipeline_workers", "orders_stream:probe"] {
        assert!(server.command::<i64>(&["PTTL", key]).await > 0, "{key}");
    }
}

/// ElastiCache Serverless refuses a call of 4,000 arguments; this Redis counts them in its slow log.
#[tokio::test]
async fn no_call_has_four_thousand_arguments() {
    let server = RedisServer::start().await;
    for (name, value) in [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "10000")] {
        server.command::<()>(&["CONFIG", "SET", name, value]).await;
    }
    let wide = |n| {
        let mut entry = entry(n);
        for field in 0..30 {
            entry.fields.0.push((format!("field-{field}").into(), "x".into()));
        }
        entry
    };
    let stream = open(&server.config());
    let entries: Vec<_> = (0..600).map(wide).collect();
    let mut writer = stream.writer();
    // New ones in one pipeline of XADDs, repeats in calls of the script.
    for again in [false, true] {
        server.command::<()>(&["SLOWLOG", "RESET"]).await;
        let outcomes = writer.try_append(&entries).await.unwrap();
        let is_repeat = |outcome: &Appended| matches!(outcome, Appended::Duplicate(_));
        assert!(outcomes.iter().all(|outcome| is_repeat(outcome) == again));
        let calls: Vec<(u64, u64, u64, Vec<String>, String, String)> = server.command(&["SLOWLOG", "GET", "-1"]).await;
        let most = calls.iter().map(|call| arguments(&call.3)).max().unwrap();
        assert!((1_200..4_000).contains(&most), "{most}");
        assert!(!again || most > 3_800, "{most}");
    }
}

/// The slow log keeps 32 arguments, the last of which may tell how many more there were.
fn arguments(kept: &[String]) -> usize {
    let more = kept
        .last()
        .and_then(|last| last.strip_prefix("... (")?.split(' ').next()?.parse::<usize>().ok());
    more.map_or(kept.len(), |more| kept.len() - 1 + more)
}
