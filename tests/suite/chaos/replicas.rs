//! The scenes of several Redis: `serve`, `run` with a spool, and `work` on a cluster or behind sentinels, whose replicas
//! take over.
//!
//! With `replicated:1` (the default) nothing that was acknowledged may be lost. With `received`
//! (`scripts/chaos --durability received`) what a replica lacked when it took over is, and must be reported: at least as
//! many as the oracle misses, since a process counts what it had confirmed, loaded or not.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::ends;
use super::fault::{self, Fault, Planned, Target};
use super::oracle::Ends;
use super::plant::{Door, OneAtATime, Plant, Process};
use super::services::is_acked;
use super::sqlite;
use crate::harness::eventually;
use crate::harness::postgres::Cluster;
use crate::harness::redis::RedisServer;
use crate::harness::service::Settings;
use crate::harness::site::PATIENCE;

const REPLICATED: &str = "replicated:1";

/// Servers of which one takes another's place.
pub trait Primaries {
    const TITLE: &str;
    /// The streams that it holds, and how many partitions these are, where that is to be said.
    const LOGS: &[&str];
    const PARTITIONS: Option<&str>;

    /// What goes wrong here alone.
    async fn faults(&self) -> Vec<Fault>;

    /// `REDIS_URL`.
    fn url(&self) -> String;

    /// Where a key is.
    async fn holder(&self, key: &str) -> &RedisServer;

    /// Makes a fault of the primary of that key happen, and waits until all is as before.
    async fn suffer(&mut self, fault: Fault, lasts: Duration, key: &str);
}

pub struct Replicas<R> {
    serve: Process,
    run: Process,
    work: Process,
    redis: Mutex<R>,
    postgres: Cluster,
    durability: String,
    deck: Vec<Fault>,
    spool: PathBuf,
    suffering: OneAtATime,
    _folder: TempDir,
}

impl<R: Primaries> Replicas<R> {
    pub async fn start(redis: R) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let postgres = Cluster::start(&[], &[]).await;
        let durability = std::env::var("ORDERSTREAM_CHAOS_DURABILITY").unwrap_or_else(|_| REPLICATED.to_owned());
        let mut settings = Settings::new(&redis.url(), &postgres.url("postgres"))
            .with("ORDERSTREAM_DURABILITY", &durability)
            .with("ORDERSTREAM_KEEP_RAW", "full")
            .with("ORDERSTREAM_DEAD_LETTERS_MAXLEN", "1000000")
            .with("ORDERSTREAM_READ_COUNT", "100")
            .with("ORDERSTREAM_WORKERS", "2")
            .with("RUST_LOG", "info");
        if let Some(partitions) = R::PARTITIONS {
            settings = settings.with("ORDERSTREAM_PARTITIONS", partitions);
        }
        let files = folder.path().join("run");
        let spooling = settings.with("ORDERSTREAM_DATA_DIR", files.to_str().unwrap());
        Self {
            serve: Process::start("serve", settings.clone()).await,
            run: Process::start("run", spooling).await,
            work: Process::start("work", settings).await,
            deck: [fault::for_replicas(durability == REPLICATED), redis.faults().await].concat(),
            redis: Mutex::new(redis),
            postgres,
            durability,
            spool: files.join("spool.db"),
            suffering: OneAtATime::new(),
            _folder: folder,
        }
    }

    fn processes(&self) -> [&Process; 3] {
        [&self.serve, &self.run, &self.work]
    }

    async fn is_settled(&self) -> bool {
        if self.spool.exists() && !sqlite::is_read_and_acked(&self.spool) {
            return false;
        }
        let redis = self.redis.lock().await;
        for log in R::LOGS {
            if is_acked(redis.holder(log).await, log).await != Some(true) {
                return false;
            }
        }
        true
    }
}

impl<R: Primaries> Plant for Replicas<R> {
    fn title(&self) -> &'static str {
        R::TITLE
    }

    fn deck(&self) -> Vec<Fault> {
        self.deck.clone()
    }

    async fn suffer(&self, planned: &Planned) {
        let Planned { fault, lasts, at, .. } = *planned;
        let _alone = self.suffering.turn(fault.target()).await;
        match fault.target() {
            Target::Serve => self.serve.suffer(fault, lasts).await,
            Target::Run => self.run.suffer(fault, lasts).await,
            Target::Work => self.work.suffer(fault, lasts).await,
            Target::Postgres if matches!(fault, Fault::Stop(_)) => {
                self.postgres.freeze();
                sleep(lasts).await;
                self.postgres.thaw();
            }
            Target::Postgres => {
                self.postgres.kill();
                self.postgres.restart().await;
            }
            _ => {
                let log = R::LOGS[usize::try_from(at.as_millis() / 100).unwrap() % R::LOGS.len()];
                let suffers = async { self.redis.lock().await.suffer(fault, lasts, log).await };
                match fault {
                    // What the replica lacks is lost only where it is not loaded yet.
                    Fault::ReplicaLags => {
                        let _run = self.suffering.turn(Target::Run).await;
                        let _work = self.suffering.turn(Target::Work).await;
                        self.run.stopped(self.work.stopped(suffers)).await;
                    }
                    _ => suffers.await,
                }
            }
        }
    }

    async fn doors(&self) -> Vec<Door> {
        vec![self.serve.door().await, self.run.door().await]
    }

    /// No other program: nobody waits for replicas of what it writes.
    async fn redis(&self) -> Option<redis::Client> {
        None
    }

    /// As long as anything is loaded: what is left then is missing in the warehouse, which the oracle tells.
    async fn settles(&self) {
        let (mut rows, mut since) = (String::new(), Instant::now());
        while !self.is_settled().await {
            let loaded = self
                .postgres
                .sql("postgres", "SELECT count(*) FROM orderstream.order_events");
            if loaded != rows {
                (rows, since) = (loaded, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                eprintln!("entries are left, and none was loaded for {PATIENCE:?}");
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ends(&self) -> Ends {
        let session = self.postgres.session("postgres", "SELECT 1").await;
        let redis = self.redis.lock().await;
        let holder = redis.holder("dead_letters").await;
        let letters: Vec<(String, HashMap<String, String>)> =
            holder.command(&["XRANGE", "dead_letters", "-", "+"]).await;
        Ends {
            letters: letters.iter().map(|(_, fields)| ends::letter(fields)).collect(),
            ..ends::of_postgres(&session).await
        }
    }

    async fn reported(&self) -> u64 {
        let mut reported = 0;
        for process in self.processes() {
            process.looks().await;
            reported += process.figure("orderstream_entries_lost_total").await;
        }
        reported
    }

    fn may_lose(&self, reported: u64) -> Option<u64> {
        Some(if self.durability == REPLICATED { 0 } else { reported })
    }

    async fn signs(&self) -> Vec<(&'static str, u64)> {
        let mut signs = Vec::new();
        for (sign, name) in [
            (
                "changes of a primary that a process saw",
                "orderstream_owner_changes_total",
            ),
            (
                "flushes that no replica confirmed",
                "orderstream_flushes_unproven_total",
            ),
            ("MOVED", "orderstream_redirects_total{kind=\"moved\"}"),
            ("ASK", "orderstream_redirects_total{kind=\"ask\"}"),
            ("TRYAGAIN", "orderstream_redirects_total{kind=\"tryagain\"}"),
            ("CLUSTERDOWN", "orderstream_redirects_total{kind=\"down\"}"),
        ] {
            let mut count = 0;
            for process in self.processes() {
                count += process.figure(name).await;
            }
            signs.push((sign, count));
        }
        signs
    }
}

/// SIGKILL of a primary whose replica was cut off from it before, so that it lacks what came meanwhile. The caller
/// restarts it.
pub async fn dies_before_its_replica_has_all(
    servers: &mut [RedisServer],
    primary: usize,
    replica: usize,
    lag: Duration,
) {
    // One that is only stopped reads what its socket holds once it goes on.
    servers[replica].leave(&servers[primary]).await;
    sleep(lag).await;
    servers[primary].kill();
    servers[replica].may_follow().await;
}

/// Faults that are the same wherever the server stands; false for others.
pub async fn one_suffers(server: &mut RedisServer, fault: Fault, lasts: Duration, log: &str) -> bool {
    match fault {
        Fault::Kill(_) => {
            server.kill();
            server.restart().await;
        }
        Fault::Stop(_) => {
            server.stall();
            sleep(lasts).await;
            server.resume();
        }
        Fault::GroupDestroyed => {
            let destroy = ["XGROUP", "DESTROY", log, "pipeline_workers"];
            eventually("the group is destroyed", PATIENCE, async || {
                server.try_command::<redis::Value>(&destroy).await.ok()
            })
            .await;
        }
        Fault::ScriptsFlushed => server.command(&["SCRIPT", "FLUSH"]).await,
        _ => return false,
    }
    true
}
