//! What the store itself loses is a class of its own: the service cannot bring it back, and must say how much it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::clients::Crowd;
use super::ends;
use super::given;
use super::journal::{self, Journal};
use super::oracle::judge;
use super::plant::Process;
use super::report::{FaultLog, Outcome};
use crate::harness::eventually;
use crate::harness::site::{PATIENCE, Site};

const LOST: &str = "orderstream_entries_lost_total";

/// FLUSHALL takes a backlog that nobody has in hand, and the quarantine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_flushall_takes_is_reported() {
    let seed = given("ORDERSTREAM_CHAOS_SEED", 1);
    let site = Site::new().await;
    let settings = site.settings().with("ORDERSTREAM_KEEP_RAW", "full");
    let serve = Process::start("serve", settings.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("journal");
    let producers = redis::Client::open(site.redis.url()).unwrap();
    let doors = vec![serve.door().await];
    let crowd = Arc::new(Crowd::new(seed, doors, Some(producers), Journal::create(&book)));

    send(&crowd).await;
    // Two looks of the watcher, so that the last one has seen everything.
    let seen = Instant::now() + Duration::from_secs(3);
    eventually("the watcher has looked", PATIENCE, async || {
        (Instant::now() > seen).then_some(())
    })
    .await;
    site.redis.command::<()>(&["FLUSHALL"]).await;
    eventually("the loss is noticed", PATIENCE, async || {
        (serve.figure(LOST).await > 0).then_some(())
    })
    .await;

    // What comes afterwards is safe.
    let work = Process::start("work", settings).await;
    send(&crowd).await;
    site.is_settled().await;
    let stories = journal::read(&book);
    let database = site.database();
    let mut ends = ends::of_postgres(&database.session("SELECT 1").await).await;
    ends.letters = site.letters().await.iter().map(ends::letter).collect();
    assert_eq!(work.figure(LOST).await, 0, "it was not there at the time");
    Outcome {
        title: "FLUSHALL",
        seed,
        log: FaultLog::new(),
        seen: crowd.seen(),
        verdict: judge(&stories, &ends),
        stories,
        reported: serve.figure(LOST).await,
        signs: Vec::new(),
    }
    .conclude();
}

/// A few seconds of the usual mixture.
async fn send(crowd: &Arc<Crowd>) {
    let stop = CancellationToken::new();
    let ends = Instant::now() + Duration::from_secs(3);
    let until = async {
        eventually("enough is sent", PATIENCE, async || {
            (Instant::now() > ends).then_some(())
        })
        .await;
        stop.cancel();
    };
    tokio::join!(crowd.run(8, 100, &stop, ends), until);
}
