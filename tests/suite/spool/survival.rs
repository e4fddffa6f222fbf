//! What is spooled outlives every process that may die.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{
    Place, are_spooled, deliver, deliver_as, depth_is, figure, goes_direct, goes_direct_at_first, health, stream_length,
};
use crate::harness::eventually;
use crate::harness::service::{Service, order};
use crate::harness::site::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_under_load_refuses_and_loses_nothing() {
    let mut place = Place::new().await;
    let service = Service::start("run", &place.settings()).await;
    assert_eq!(deliver(&service, 1).await, (200, "accepted".to_owned()));
    let (next, over) = (AtomicU64::new(2), AtomicBool::new(false));
    let answers = Mutex::new(Vec::new());
    let client = async || {
        while !over.load(Ordering::Relaxed) {
            let id = next.fetch_add(1, Ordering::Relaxed);
            let answer = deliver(&service, id).await;
            answers.lock().unwrap().push(answer);
        }
    };
    let count = |word: &str| answers.lock().unwrap().iter().filter(|(_, said)| said == word).count();
    let killer = async {
        for round in 1..=2 {
            eventually("events are accepted", PATIENCE, async || {
                (count("accepted") > 100 * round).then_some(())
            })
            .await;
            let before = count("spooled");
            place.site.redis.kill();
            eventually("events are spooled", PATIENCE, async || {
                (count("spooled") > before + 200).then_some(())
            })
            .await;
            place.site.redis.restart().await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let clients = futures_util::future::join_all((0..8).map(|_| client()));
    futures_util::future::join(clients, killer).await;

    let answers = answers.into_inner().unwrap();
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    depth_is(&service, 0).await;
    let sent = usize::try_from(next.into_inner() - 1).unwrap();
    place.site.has_rows(sent).await;
    place.site.is_settled().await;
    assert_eq!(
        place.site.sql("SELECT count(*) FROM orderstream.orders"),
        sent.to_string()
    );
    assert_eq!(place.site.dead_letters().await, 0);
    eventually("what was drained is counted", PATIENCE, async || {
        (figure(&service, "orderstream_spool_drained_total").await >= 400.0).then_some(())
    })
    .await;
    for said in [
        "the breaker is open",
        "the breaker is closed",
        "the spool is empty again",
    ] {
        service.says(said).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_redis_is_left_and_what_it_stored_all_the_same_is_not_doubled() {
    let place = Place::new().await;
    let service = Service::start("run", &place.settings()).await;
    goes_direct_at_first(&service).await;
    place.site.redis.stall();
    let sent = futures_util::future::join_all((101..=160).map(|id| deliver(&service, id))).await;
    assert!(
        sent.iter().all(|answer| *answer == (200, "spooled".to_owned())),
        "{sent:?}"
    );
    assert_eq!(service.get(&service.url("/readyz")).await.unwrap().status(), 200);
    depth_is(&service, 60).await;
    let seen = health(&service).await;
    assert_eq!(seen["breaker"], "open", "{seen}");

    place.site.redis.resume();
    depth_is(&service, 0).await;
    let last = goes_direct(&service, 200).await;
    // The stalled flushes were stored in the end: the stream holds each once all the same.
    let direct = usize::try_from(last - 200).unwrap();
    eventually("all are there", PATIENCE, async || {
        (place.site.rows() >= 60 + direct).then_some(())
    })
    .await;
    place.site.is_settled().await;
    let entries = stream_length(&place.site.redis).await;
    assert_eq!(place.site.rows() as u64, entries);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spool_survives_the_death_of_its_process() {
    let mut place = Place::new().await;
    let settings = place.settings();
    let mut service = Service::start("serve", &settings).await;
    place.site.redis.kill();
    are_spooled(&service, 1..=20).await;
    // Some are in the drainer's hands, or claimed, when it dies.
    service.kill();
    let mut service = Service::start("serve", &settings).await;
    depth_is(&service, 20).await;
    assert_eq!(
        deliver(&service, 7).await,
        (200, "duplicate".to_owned()),
        "it is still here"
    );
    service.kill();
    place.site.redis.restart().await;
    let service = Service::start("run", &settings).await;
    place.site.has_rows(20).await;
    depth_is(&service, 0).await;
    assert_eq!(
        deliver(&service, 7).await,
        (200, "duplicate".to_owned()),
        "it is in the stream"
    );
    place.site.is_settled().await;
    assert_eq!(place.site.rows(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_body_under_a_spooled_id_is_quarantined() {
    let mut place = Place::new().await;
    let service = Service::start("run", &place.settings()).await;
    assert_eq!(deliver_as(&service, "direct", &order(1)).await.1, "accepted");
    place.site.redis.kill();
    assert_eq!(deliver_as(&service, "spooled", &order(2)).await.1, "spooled");
    // Known here, so it is told at once; the letter itself is spooled.
    assert_eq!(deliver_as(&service, "spooled", &order(3)).await.1, "quarantined");
    assert_eq!(deliver_as(&service, "spooled", &order(3)).await.1, "quarantined");
    // Known only to the stream, which cannot be asked now.
    assert_eq!(deliver_as(&service, "direct", &order(4)).await.1, "spooled");
    // What cannot become an event at all.
    assert_eq!(
        deliver_as(&service, "broken", &serde_json::json!({"no": "order"}))
            .await
            .1,
        "quarantined"
    );

    place.site.redis.restart().await;
    depth_is(&service, 0).await;
    place.site.has_rows(2).await;
    // Where Redis died before it had noted the first id, only the warehouse finds that it was used.
    let letters = eventually("each became a letter", PATIENCE, async || {
        let letters = place.site.letters().await;
        (letters.len() >= 3).then_some(letters)
    })
    .await;
    let errors: BTreeSet<_> = letters.iter().map(|letter| letter["error"].as_str()).collect();
    assert_eq!(letters.len(), 3, "{letters:?}");
    assert!(errors.contains("its id was used for another body"), "{errors:?}");
    for name in [
        "event_id",
        "timestamp",
        "original_stream",
        "original_id",
        "failed_at",
        "attempts",
        "consumer",
    ] {
        assert!(
            letters.iter().all(|letter| letter.contains_key(name)),
            "{name}: {letters:?}"
        );
    }
    // Wherever it came out that the id was used before, the webhook becomes an event of its own; the broken one stays.
    let replay = ["dead-letters", "replay", "--all", "--yes", "--json"];
    let replayed = place.settings().command(&replay).output().unwrap();
    let replayed: serde_json::Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(
        (&replayed["done"], &replayed["kept"]),
        (&2.into(), &1.into()),
        "{replayed:#}"
    );
    place.site.has_rows(4).await;
    assert_eq!(place.site.sql("SELECT count(*) FROM orderstream.orders"), "4");
    assert_eq!(place.site.dead_letters().await, 1);
}
