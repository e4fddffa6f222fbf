//! Everything that can go wrong goes wrong while webhooks come in, and an oracle of its own says what came of it.
//!
//! `scripts/chaos` runs one scene for as long as one likes, from any seed; the suite runs a minute of it. What the
//! clients sent and were answered is in a journal on disk, by which warehouse and dead letters are judged in the end.

mod capture;
mod clients;
pub mod clock;
mod cluster;
mod embedded;
mod ends;
mod event;
mod fault;
mod journal;
mod losses;
mod measure;
mod oracle;
mod plant;
mod prove;
pub mod proxy;
mod replicas;
mod report;
mod sentinel;
mod services;
mod sqlite;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use self::clients::Crowd;
use self::embedded::Embedded;
use self::fault::{LANES, Planned, schedule};
use self::journal::Journal;
use self::oracle::judge;
use self::plant::Plant;
use self::replicas::Replicas;
use self::report::{FaultLog, Outcome};
use self::services::Services;
use crate::harness::cluster::Cluster;
use crate::harness::redis::RedisOptions;
use crate::harness::sentinels::Sentinels;

const CLIENTS: u32 = 24;
/// Requests a second; some of them are batches.
const RATE: u32 = 80;
/// Clients go on trying for so long after the last fault.
const AFTERMATH: Duration = Duration::from_secs(90);

/// A whole number from the environment, as `scripts/chaos` sets it.
pub fn given(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no whole number: {text}"))
    })
}

/// Two thirds of the suite's minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_lose_and_double_nothing() {
    run(Services::start().await, 40).await;
}

/// The last third, with nothing but a folder: there are fewer kinds of fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_lose_and_double_nothing() {
    run(Embedded::start().await, 20).await;
}

/// Redis may be away for as long as the spool has room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a scene of its own: scripts/chaos --scene spool"]
async fn services_with_spools_lose_and_double_nothing() {
    run(Services::start_with_spools().await, 60).await;
}

/// Primaries of a cluster are killed, stopped and replaced, and its slots move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_lose_and_double_nothing() {
    let redis = Cluster::start(3, true, RedisOptions::durable()).await;
    run(Replicas::start(redis).await, 8).await;
}

/// A primary is killed, stopped and replaced, and sentinels are stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lose_and_double_nothing() {
    let redis = Sentinels::start(RedisOptions::durable(), None).await;
    run(Replicas::start(redis).await, 8).await;
}

/// One scene from beginning to end.
async fn run(plant: impl Plant, seconds: u64) {
    let (seed, seconds) = (
        given("ORDERSTREAM_CHAOS_SEED", 1),
        given("ORDERSTREAM_CHAOS_SECONDS", seconds),
    );
    let planned = schedule(seed, seconds, &plant.deck());
    announce(seed, seconds, &planned);

    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("journal");
    let crowd = Crowd::new(seed, plant.doors().await, plant.redis().await, Journal::create(&book));
    let crowd = Arc::new(crowd);
    let log = FaultLog::new();
    let stop = CancellationToken::new();
    let end = Instant::now() + Duration::from_secs(seconds) + AFTERMATH;
    let suffering = async {
        suffer(&plant, &planned, seconds, &log).await;
        stop.cancel();
    };
    tokio::join!(crowd.run(CLIENTS, RATE, &stop, end), suffering);
    plant.settles().await;

    let stories = journal::read(&book);
    let outcome = Outcome {
        title: plant.title(),
        seed,
        log,
        seen: crowd.seen(),
        verdict: judge(&stories, &plant.ends().await),
        stories,
        reported: plant.reported().await,
        signs: plant.signs().await,
    };
    match plant.may_lose(outcome.reported) {
        Some(at_most) => outcome.conclude_within(at_most),
        None => outcome.conclude(),
    }
}

fn announce(seed: u64, seconds: u64, planned: &[Planned]) {
    eprintln!("chaos: seed {seed}, {seconds} s, {} faults:", planned.len());
    for Planned { lane, at, lasts, fault } in planned {
        eprintln!(
            "  lane {lane}, at {:5.1} s, for {:4.1} s: {fault}",
            at.as_secs_f64(),
            lasts.as_secs_f64()
        );
    }
}

/// Lets every fault happen when its time has come, lane by lane.
async fn suffer(plant: &impl Plant, planned: &[Planned], seconds: u64, log: &FaultLog) {
    let began = tokio::time::Instant::now();
    let lanes = (0..LANES).map(async |lane| {
        for planned in planned.iter().filter(|planned| planned.lane == lane) {
            sleep_until(began + planned.at).await;
            // Starts that took their time made this lane late; what no longer fits in is left out.
            if began.elapsed() > Duration::from_secs(seconds) {
                return;
            }
            log.begins(planned);
            plant.suffer(planned).await;
            log.ends(planned);
        }
    });
    join_all(lanes).await;
    sleep_until(began + Duration::from_secs(seconds)).await;
}
