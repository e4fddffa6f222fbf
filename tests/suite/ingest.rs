//! The appender and the service around it, when clients, Redis or the process go away.

use std::time::{Duration, Instant};

use orderstream::config::KeepRaw;

use crate::harness::eventually;
use crate::harness::ingest::{Service, Settings, event, order, signed, webhook};
use crate::harness::redis::RedisServer;
use crate::harness::slow_link::SlowLink;
use crate::harness::wire::{Wire, ask, get, request};

const LONG: Duration = Duration::from_secs(30);

async fn entries(redis: &RedisServer) -> u64 {
    redis.command(&["XLEN", "orders_stream"]).await
}

#[tokio::test]
async fn concurrent_webhooks_share_round_trips_and_keep_their_answers() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let answers = futures_util::future::join_all((0..200).map(|number| {
        let service = &service;
        async move {
            service
                .webhook(&format!("w-{}", number % 100), &order(number % 100))
                .await
                .json()
        }
    }))
    .await;
    assert_eq!(entries(&redis).await, 100);
    for number in 0..100 {
        let (one, other) = (&answers[number], &answers[number + 100]);
        assert_eq!(one["event_id"], other["event_id"]);
        assert_eq!(
            one["stream_id"], other["stream_id"],
            "a duplicate answers with the first entry's id"
        );
        let mut statuses = [one["status"].as_str().unwrap(), other["status"].as_str().unwrap()];
        statuses.sort_unstable();
        assert_eq!(statuses, ["accepted", "duplicate"]);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_nothing() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.redis.response_timeout = LONG;
    settings.appender.deadline = LONG;
    let service = Service::start_with(settings).await.ready().await;
    redis.stall();
    let mut wire = Wire::connect(service.public).await;
    wire.send(&webhook("w-1", &order(1))).await;
    eventually("the request is read", LONG, async || {
        (service.metrics.body_bytes.get() > 0).then_some(())
    })
    .await;
    drop(wire);
    eventually("the handler is gone", LONG, async || {
        (service.metrics.connections.get() == 0).then_some(())
    })
    .await;
    assert!(
        service.metrics.body_bytes.get() > 0,
        "the append holds its memory's share"
    );
    redis.resume();
    eventually("the entry is stored all the same", LONG, async || {
        (entries(&redis).await == 1).then_some(())
    })
    .await;
    eventually("the share is given back", LONG, async || {
        (service.metrics.body_bytes.get() == 0).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn a_store_that_refuses_appends_is_not_ready() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let ready = async |status| {
        eventually("readiness follows", LONG, async || {
            let probes = ["/readyz", "/health"].map(|path| get(service.public, path));
            let probes = futures_util::future::join_all(probes).await;
            probes.iter().all(|probe| probe.status == status).then_some(())
        })
        .await;
    };
    // Found out, and found to be over, without any traffic: also where the user may write other keys.
    let denials = [("-xadd", "+xadd"), ("resetkeys ~orders_stream:*", "allkeys")];
    for (denied, allowed) in denials {
        let denied: Vec<_> = denied.split(' ').collect();
        let () = redis
            .command(&[&["ACL", "SETUSER", "default"], &denied[..]].concat())
            .await;
        ready(503).await;
        let () = redis.command(&["ACL", "SETUSER", "default", allowed]).await;
        ready(200).await;
    }
    // What no probe of the store finds is learnt from the appends.
    let () = redis
        .command(&["ACL", "SETUSER", "default", "-evalsha", "-hsetnx"])
        .await;
    assert_eq!(service.webhook("w-1", &order(1)).await.status, 503);
    assert_eq!(get(service.public, "/readyz").await.status, 503);
    assert_eq!(get(service.public, "/health").await.status, 503);
    let () = redis
        .command(&["ACL", "SETUSER", "default", "+evalsha", "+hsetnx"])
        .await;
    ready(200).await;
    assert_eq!(service.webhook("w-1", &order(1)).await.status, 200);
    service.stop().await;
}

#[tokio::test]
async fn a_batch_is_answered_as_a_whole_in_time() {
    let redis = RedisServer::start().await;
    let slow = SlowLink::late(&redis, Duration::from_millis(200));
    let mut settings = Settings::new(&redis);
    settings.redis.url = slow.url().into();
    settings.intake.batch_limit = 10_000;
    let service = Service::start_with(settings).await.ready().await;
    let events: Vec<_> = (0..8000).map(|number| event(&format!("e-{number}"))).collect();
    let answer = service.batch("/events/batch", events.join("\n").as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let counts = &answer.json()["counts"];
    let count = |status: &str| counts[status].as_u64().unwrap();
    assert!(count("accepted") > 0 && count("unavailable") > 0, "{counts}");
    assert_eq!(count("accepted") + count("unavailable"), 8000);
    assert!(entries(&redis).await >= count("accepted"));
    service.stop().await;
}

#[tokio::test]
async fn a_hanging_redis_is_answered_in_time_and_a_late_commit_absorbed() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    redis.stall();
    let asked = Instant::now();
    let answer = service.webhook("w-1", &order(1)).await;
    let waited = asked.elapsed();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["code"], "stream_unavailable");
    assert!(answer.header("retry-after").is_some());
    assert!(waited < Duration::from_secs(5), "Shopify hung up before {waited:?}");
    eventually("health says so", LONG, async || {
        (get(service.public, "/health").await.status == 503).then_some(())
    })
    .await;
    redis.resume();
    let stored = eventually("the retry is taken", LONG, async || {
        let answer = service.webhook("w-1", &order(1)).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert!(["accepted", "duplicate"].contains(&stored["status"].as_str().unwrap()));
    assert_eq!(entries(&redis).await, 1, "stored once, whichever attempt it was");
    eventually("health recovers", LONG, async || {
        (get(service.public, "/health").await.status == 200).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn without_dedupe_an_unknown_outcome_is_not_sent_again() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.stream.dedupe_window = None;
    settings.redis.response_timeout = Duration::from_millis(500);
    let service = Service::start_with(settings).await.ready().await;
    assert_eq!(service.webhook("w-0", &order(0)).await.status, 200);
    redis.stall();
    assert_eq!(service.webhook("w-1", &order(1)).await.status, 503);
    redis.resume();
    // The server works off what it was sent, in order, before it takes this one.
    eventually("it takes webhooks again", LONG, async || {
        (service.webhook("w-2", &order(2)).await.status == 200).then_some(())
    })
    .await;
    let found: Vec<(String, Vec<String>)> = redis.command(&["XRANGE", "orders_stream", "-", "+"]).await;
    let of_first = found.iter().filter(|(_, fields)| fields.contains(&"w-1".to_owned()));
    assert!(of_first.count() <= 1, "{found:?}");
    service.stop().await;
}

#[tokio::test]
async fn at_the_cap_an_idle_connection_gives_way_and_a_busy_one_does_not() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.public.max_connections = 1;
    settings.appender.deadline = LONG;
    settings.redis.response_timeout = LONG;
    let service = Service::start_with(settings).await.ready().await;
    let mut idle = Wire::connect(service.public).await;
    idle.send(&request("GET /livez", &[], b"")).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    redis.stall();
    let mut busy = Wire::connect(service.public).await;
    busy.send(&webhook("w-1", &order(1))).await;
    assert!(idle.rest().await.is_empty(), "the idle one is closed");
    eventually("the request is read", LONG, async || {
        (service.metrics.body_bytes.get() > 0).then_some(())
    })
    .await;
    let mut newcomer = Wire::connect(service.public).await;
    newcomer.send(&request("GET /livez", &[], b"")).await;
    let early = tokio::time::timeout(Duration::from_millis(300), newcomer.answer()).await;
    assert!(early.is_err(), "a connection beyond the cap was served");
    redis.resume();
    assert_eq!(busy.answer().await.expect("it was cut off").status, 200);
    assert_eq!(newcomer.answer().await.unwrap().status, 200);
    drop((busy, newcomer));
    service.stop().await;
}

#[tokio::test]
async fn idle_connections_leave_room_for_others() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.public.max_connections = 10;
    let service = Service::start_with(settings).await.ready().await;
    let mut peers = Vec::new();
    for _ in 0..40 {
        let mut peer = Wire::connect(service.public).await;
        peer.send(&request("GET /livez", &[], b"")).await;
        let answer = peer.answer().await.expect("an answer");
        assert_eq!(answer.status, 200);
        peers.push((peer, answer.header("connection") == Some("close")));
    }
    let mut kept = 0;
    for (peer, closed) in &mut peers {
        if *closed {
            assert!(peer.rest().await.is_empty());
        } else {
            peer.send(&request("GET /livez", &[], b"")).await;
            assert_eq!(peer.answer().await.expect("an answer").status, 200);
            kept += 1;
        }
    }
    assert!(
        (1..10).contains(&kept),
        "{kept} of 10 slots are held by idle connections"
    );
    drop(peers);
    service.stop().await;
}

#[tokio::test]
async fn the_status_code_of_health_and_its_body_agree() {
    let mut redis = RedisServer::start().await;
    let service = Service::start(&redis).await;
    let turns_to = async |status: u16| {
        eventually("health turns", LONG, async || {
            let answer = get(service.public, "/health").await;
            let report = answer.json();
            let stream = &report["checks"][0];
            assert_eq!(stream["name"], "stream");
            assert_eq!(stream["status"] == "critical", answer.status == 503, "{report}");
            assert_eq!(report["status"] == "critical", answer.status == 503, "{report}");
            (answer.status == status).then_some(())
        })
        .await;
    };
    turns_to(200).await;
    for _ in 0..3 {
        redis.kill();
        turns_to(503).await;
        redis.restart().await;
        turns_to(200).await;
    }
    service.stop().await;
}

#[tokio::test]
async fn health_names_the_group_that_holds_trimming() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.stream.retain_acked = 2;
    settings.health.after = Duration::ZERO;
    let service = Service::start_with(settings).await.ready().await;
    for number in 0..5 {
        assert_eq!(
            service.webhook(&format!("w-{number}"), &order(number)).await.status,
            200
        );
    }
    let _: String = redis.command(&["XGROUP", "CREATE", "orders_stream", "slow", "0"]).await;
    let report = eventually("health names it", LONG, async || {
        let report = get(service.public, "/health").await.json();
        (report["trim_held_by"] == "slow").then_some(report)
    })
    .await;
    assert_eq!(report["stream_length"], 5);
    assert_eq!(
        report["pending_count"],
        serde_json::Value::Null,
        "our group does not exist yet"
    );
    assert_eq!(report["status"], "warning");
    assert!(report["last_accepted_seconds"].as_f64().is_some());
    service.stop().await;
}

/// Waits until `/metrics` says so of stream, pending, lag and dead letters.
async fn exports(service: &Service, figures: [i64; 4]) {
    let names = ["stream_length", "stream_pending", "stream_lag", "dead_letters_length"];
    let said = std::iter::zip(names, figures).map(|(name, figure)| format!("\norderstream_{name} {figure}\n"));
    let said = Vec::from_iter(said);
    eventually(&format!("{figures:?} is exported"), LONG, async || {
        let exported = get(service.admin, "/metrics").await;
        said.iter().all(|line| exported.text().contains(line)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_figure_of_the_stream_that_is_not_known_is_not_exported_as_one() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let service = Service::start(&redis).await;
    exports(&service, [-1, -1, -1, -1]).await;
    redis.restart().await;
    exports(&service, [0, -1, -1, 0]).await;
    assert_eq!(service.webhook("w-0", &order(0)).await.status, 200);
    let _: String = redis
        .command(&["XGROUP", "CREATE", "orders_stream", "pipeline_workers", "0"])
        .await;
    exports(&service, [1, 0, 1, 0]).await;
    let _: String = redis.command(&["FLUSHALL"]).await;
    exports(&service, [0, -1, -1, 0]).await;
    redis.kill();
    exports(&service, [-1, -1, -1, -1]).await;
    service.stop().await;
}

#[tokio::test]
async fn a_redis_that_is_restarted_is_waited_for() {
    let mut redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    assert_eq!(service.webhook("w-0", &order(0)).await.status, 200);
    redis.kill();
    let mut wire = Wire::connect(service.public).await;
    wire.send(&webhook("w-1", &order(1))).await;
    redis.restart().await;
    // The first attempt may or may not outlive its deadline; the client's retry is taken in any case.
    let _ = wire.answer().await;
    eventually("the retry is taken", LONG, async || {
        (service.webhook("w-1", &order(1)).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(entries(&redis).await, 1);
    service.stop().await;
}

#[tokio::test]
async fn requests_in_flight_are_finished_at_shutdown() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.appender.deadline = LONG;
    settings.redis.response_timeout = LONG;
    let service = Service::start_with(settings).await.ready().await;
    let mut idle = Wire::connect(service.public).await;
    idle.send(&request("GET /livez", &[], b"")).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    redis.stall();
    let mut busy = Wire::connect(service.public).await;
    busy.send(&webhook("w-1", &order(1))).await;
    eventually("the request is read", LONG, async || {
        (service.metrics.body_bytes.get() > 0).then_some(())
    })
    .await;
    let public = service.public;
    let stopping = service.stop();
    let client = async {
        assert!(idle.rest().await.is_empty(), "idle connections are closed");
        redis.resume();
        busy.answer().await.expect("an answer")
    };
    let ((), answer) = tokio::join!(stopping, client);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(entries(&redis).await, 1);
    assert!(
        tokio::net::TcpStream::connect(public).await.is_err(),
        "it still listens"
    );
}

#[tokio::test]
async fn at_the_cap_it_sheds_and_loses_nothing() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.stream.maxlen = 5;
    settings.stream.retain_acked = 0;
    let service = Service::start_with(settings).await.ready().await;
    for number in 0..5 {
        assert_eq!(
            service.webhook(&format!("w-{number}"), &order(number)).await.status,
            200
        );
    }
    let answer = service.webhook("w-5", &order(5)).await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &"stream_full".into()));
    assert!(answer.header("retry-after").is_some());
    let batch = service.batch("/events/batch", event("e-1").as_bytes()).await;
    assert_eq!((batch.status, &batch.json()["code"]), (503, &"nothing_stored".into()));
    assert_eq!(service.webhook("w-0", &order(0)).await.json()["status"], "duplicate");
    assert_eq!(entries(&redis).await, 5);
    eventually("health says so", LONG, async || {
        (get(service.public, "/health").await.status == 503).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn dead_letters_at_their_cap_are_named() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.stream.dead_letters_maxlen = 1;
    settings.health.after = Duration::ZERO;
    let service = Service::start_with(settings).await.ready().await;
    let quarantined = ask(service.public, &signed("orders/create", "q-1", b"{}")).await;
    assert_eq!(quarantined.json()["status"], "quarantined");
    let refused = ask(service.public, &signed("orders/create", "q-2", b"{}")).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (503, &"dead_letters_full".into())
    );
    assert_eq!(service.webhook("w-1", &order(1)).await.status, 200);
    eventually("the report says so", LONG, async || {
        let report = get(service.public, "/health").await.json();
        let checks = report["checks"].as_array()?.clone();
        let check = checks.into_iter().find(|check| check["name"] == "dead_letters")?;
        (check["status"] == "critical").then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn bodies_beyond_the_budget_are_shed() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.intake.bytes_in_flight = 4000;
    settings.appender.deadline = LONG;
    settings.redis.response_timeout = LONG;
    let service = Service::start_with(settings).await.ready().await;
    redis.stall();
    let mut holder = Wire::connect(service.public).await;
    holder.send(&webhook("w-1", &vec![b' '; 3000])).await;
    eventually("the body is in memory", LONG, async || {
        (service.metrics.body_bytes.get() > 3000).then_some(())
    })
    .await;
    let answer = service.webhook("w-2", &order(2)).await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &"overloaded".into()));
    redis.resume();
    assert_eq!(holder.answer().await.unwrap().status, 200);
    assert_eq!(service.webhook("w-2", &order(2)).await.status, 200);
    service.stop().await;
}

#[tokio::test]
async fn the_body_is_kept_where_it_is_asked_for() {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.intake.keep_raw = KeepRaw::Redacted;
    let service = Service::start_with(settings).await.ready().await;
    assert_eq!(service.webhook("w-1", &order(1)).await.status, 200);
    let found: Vec<(String, Vec<String>)> = redis.command(&["XRANGE", "orders_stream", "-", "+"]).await;
    let fields = &found[0].1;
    let value = |name: &str| {
        let at = fields.chunks(2).find(|pair| pair[0] == name).expect(name);
        at[1].clone()
    };
    assert_eq!(value("event_type"), "order.created");
    assert_eq!(value("raw_encoding"), "redacted+zstd+base64");
    let raw = orderstream::stream::codec::Unpacker::default()
        .unpack(value("raw").as_bytes(), &value("raw_encoding"), 1 << 20)
        .unwrap();
    let raw = String::from_utf8(raw).unwrap();
    assert!(raw.contains("#1") && !raw.contains("personal@example.com"), "{raw}");
    service.stop().await;
}

#[tokio::test]
async fn draining_turns_readiness_off_and_still_serves() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    service.draining.cancel();
    assert_eq!(get(service.public, "/readyz").await.status, 503);
    assert_eq!(get(service.admin, "/readyz").await.status, 503);
    assert_eq!(get(service.public, "/livez").await.status, 200);
    assert_eq!(service.webhook("w-1", &order(1)).await.status, 200);
    service.stop().await;
}
