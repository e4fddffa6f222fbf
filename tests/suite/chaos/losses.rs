//! What the store itself loses is a class of its own: the service cannot bring it back, and must say how much it is, or
//! that nobody knows.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use tokio_util::sync::CancellationToken;

use super::clients::Crowd;
use super::ends;
use super::given;
use super::journal::{self, Journal};
use super::oracle::{Ends, judge};
use super::plant::Process;
use super::report::{FaultLog, Outcome};
use super::services::everything_is_acked;
use super::sqlite;
use crate::harness::eventually;
use crate::harness::postgres::Database;
use crate::harness::redis::{RedisOptions, RedisServer};
use crate::harness::service::Settings;
use crate::harness::site::{PATIENCE, Site, Store};

const LOST: &str = "orderstream_entries_lost_total";
const UNKNOWN: &str = "orderstream_losses_unknown_total";

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
    // What another program wrote is known from the last look at the stream.
    eventually("everything that was sent is known", PATIENCE, async || {
        let stored: [u64; 2] = [
            site.redis.command(&["XLEN", "orders_stream"]).await,
            site.redis.command(&["XLEN", "dead_letters"]).await,
        ];
        let known = [
            serve.figure("orderstream_stream_length").await,
            serve.figure("orderstream_dead_letters_length").await,
        ];
        (known == stored).then_some(())
    })
    .await;
    let flush =
        "local held = redis.call('XLEN', KEYS[1]) + redis.call('XLEN', KEYS[2]) redis.call('FLUSHALL') return held";
    let held: u64 = site
        .redis
        .command(&["EVAL", flush, "2", "orders_stream", "dead_letters"])
        .await;
    eventually("the loss is noticed", PATIENCE, async || {
        (serve.figure(LOST).await > 0).then_some(())
    })
    .await;

    // What comes afterwards is safe.
    let work = Process::start("work", settings).await;
    send(&crowd).await;
    everything_is_acked(&site.redis).await;
    let stories = journal::read(&book);
    let database = site.database();
    let mut ends = ends::of_postgres(&database.session("SELECT 1").await).await;
    ends.letters = site.letters().await.iter().map(ends::letter).collect();
    assert_eq!(work.figure(LOST).await, 0, "it was not there at the time");
    assert_eq!(serve.figure(LOST).await, held);
    let verdict = judge(&stories, &ends);
    // What was stored after its client had given up is lost too, and was not acknowledged.
    let acknowledged = u64::try_from(verdict.lost.len()).unwrap();
    assert!(acknowledged <= held, "{acknowledged} are lost, of {held}");
    Outcome {
        title: "FLUSHALL",
        seed,
        log: FaultLog::new(),
        seen: crowd.seen(),
        verdict,
        stories,
        reported: acknowledged,
        signs: Vec::new(),
    }
    .conclude();
}

/// What happens to a file while nobody has it open.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Truncated,
    Flipped,
    Overwritten,
}

impl Damage {
    /// Hits the file, or its log: what a killed process confirmed last stands there.
    fn hit(self, file: &Path, in_log: bool, seed: u64) {
        let victim = if in_log {
            &file.with_extension("db-wal")
        } else {
            sqlite::fold(file);
            file
        };
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bytes = std::fs::read(victim).unwrap();
        let end = bytes.len();
        match self {
            Self::Truncated => bytes.truncate(rng.random_range(end / 4..end / 2)),
            Self::Flipped => {
                for _ in 0..4 {
                    bytes[rng.random_range(0..end)] ^= 1 << rng.random_range(0..8);
                }
            }
            Self::Overwritten => rng.fill(&mut bytes[..end / 3]),
        }
        std::fs::write(victim, bytes).unwrap();
        eprintln!("{self:?}: {} of {end} bytes", victim.display());
    }

    /// Whether what is left tells how much is lost; `None` where that depends on the bits that were hit.
    fn is_told(self, in_log: bool) -> Option<bool> {
        match self {
            // A log that has lost its end does not say how long it was, and its counts are older than what is lost.
            Self::Truncated | Self::Overwritten if in_log => Some(false),
            // The counts stand at the start of the file.
            Self::Truncated => Some(true),
            Self::Overwritten => Some(false),
            Self::Flipped => None,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_truncated_stream_loses_is_reported() {
    stream_is(Damage::Truncated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_flipped_stream_loses_is_reported() {
    stream_is(Damage::Flipped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_overwritten_stream_loses_is_reported() {
    stream_is(Damage::Overwritten).await;
}

async fn stream_is(damage: Damage) {
    for in_log in [true, false] {
        stream_is_where(damage, in_log).await;
    }
}

/// A backlog that the warehouse does not take yet is there when the file, or its log, is damaged.
async fn stream_is_where(damage: Damage, in_log: bool) {
    let seed = given("ORDERSTREAM_CHAOS_SEED", 1);
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    let settings = Settings::embedded()
        .with("ORDERSTREAM_DATA_DIR", files.to_str().unwrap())
        .with("ORDERSTREAM_KEEP_RAW", "full");
    let run = Process::start("run", settings).await;
    let book = folder.path().join("journal");
    let doors = vec![run.door().await];
    let crowd = Arc::new(Crowd::new(seed, doors, None, Journal::create(&book)));
    let stream = files.join("stream.db");

    let lock = rusqlite::Connection::open(files.join("warehouse.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    send(&crowd).await;
    run.without(Signal::SIGKILL, async { damage.hit(&stream, in_log, seed) })
        .await;
    drop(lock);
    send(&crowd).await;
    eventually("all that is left is read and acked", PATIENCE, async || {
        sqlite::is_read_and_acked(&stream).then_some(())
    })
    .await;
    let stories = journal::read(&book);
    let ends = Ends {
        letters: sqlite::letters(&stream),
        ..sqlite::warehouse(&files.join("warehouse.db"))
    };
    let unknown = run.figure(UNKNOWN).await;
    if let Some(told) = damage.is_told(in_log) {
        assert_eq!(unknown, u64::from(!told), "{damage:?}, in the log: {in_log}");
    }
    Outcome {
        title: "A damaged stream",
        seed,
        log: FaultLog::new(),
        seen: crowd.seen(),
        verdict: judge(&stories, &ends),
        stories,
        reported: run.figure(LOST).await,
        signs: Vec::new(),
    }
    .conclude_with(unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_truncated_spool_loses_is_reported() {
    spool_is(Damage::Truncated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_flipped_spool_loses_is_reported() {
    spool_is(Damage::Flipped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_overwritten_spool_loses_is_reported() {
    spool_is(Damage::Overwritten).await;
}

async fn spool_is(damage: Damage) {
    for in_log in [true, false] {
        spool_is_where(damage, in_log).await;
    }
}

/// What came while Redis was away is there when the spool, or its log, is damaged.
async fn spool_is_where(damage: Damage, in_log: bool) {
    let seed = given("ORDERSTREAM_CHAOS_SEED", 1);
    let durable = RedisOptions {
        durable: true,
        ..RedisOptions::default()
    };
    let mut site = Site {
        redis: RedisServer::start_with(durable).await,
        store: Store::Shared(Database::migrated().await),
    };
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    let settings = site.settings().with("ORDERSTREAM_KEEP_RAW", "full");
    let spooling = settings.with("ORDERSTREAM_DATA_DIR", files.to_str().unwrap());
    let serve = Process::start("serve", spooling).await;
    let book = folder.path().join("journal");
    let doors = vec![serve.door().await];
    let crowd = Arc::new(Crowd::new(seed, doors, None, Journal::create(&book)));
    let spool = files.join("spool.db");

    site.redis.kill();
    send(&crowd).await;
    serve
        .without(Signal::SIGKILL, async { damage.hit(&spool, in_log, seed) })
        .await;
    site.redis.restart().await;
    send(&crowd).await;
    let _work = Process::start("work", settings).await;
    eventually("the spool is empty", PATIENCE, async || {
        sqlite::is_read_and_acked(&spool).then_some(())
    })
    .await;
    everything_is_acked(&site.redis).await;
    let stories = journal::read(&book);
    let mut ends = ends::of_postgres(&site.database().session("SELECT 1").await).await;
    ends.letters = site.letters().await.iter().map(ends::letter).collect();
    let unknown = serve.figure(UNKNOWN).await;
    if let Some(told) = damage.is_told(in_log) {
        assert_eq!(unknown, u64::from(!told), "{damage:?}, in the log: {in_log}");
    }
    Outcome {
        title: "A damaged spool",
        seed,
        log: FaultLog::new(),
        seen: crowd.seen(),
        verdict: judge(&stories, &ends),
        stories,
        reported: serve.figure(LOST).await,
        signs: Vec::new(),
    }
    .conclude_with(unknown);
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
