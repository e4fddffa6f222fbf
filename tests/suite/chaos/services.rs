//! The scene of production: `serve`, `run` and `work` on Redis and PostgreSQL, each server behind a proxy.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::clock::Clock;
use super::ends;
use super::event::{FIRST_HOT_ORDER, HOT_ORDERS};
use super::fault::{self, Fault, Planned, Target};
use super::oracle::Ends;
use super::plant::{Door, OneAtATime, Plant, Process, clock_suffers, disk_suffers};
use super::proxy::{Dialect, Mode, Proxy};
use super::sqlite;
use crate::harness::eventually;
use crate::harness::postgres::{Cluster, own};
use crate::harness::redis::{RedisOptions, RedisServer};
use crate::harness::service::Settings;
use crate::harness::site::PATIENCE;
use crate::harness::tmpfs::Tmpfs;

/// Room for the tables, megabytes; only what is used is taken from memory.
const TABLES_ROOM: u64 = 4_096;

/// `serve`, `run` and `work` on Redis and PostgreSQL, each behind a proxy.
pub struct Services {
    pub serve: Process,
    pub run: Process,
    pub work: Process,
    pub redis: Mutex<RedisServer>,
    pub postgres: Cluster,
    redis_path: Proxy,
    postgres_path: Proxy,
    clock: Option<Clock>,
    tables: Option<Tmpfs>,
    spools: Option<Spools>,
    suffering: OneAtATime,
    _folder: TempDir,
}

/// Folders of `serve` and `run` for what Redis does not take, on a small disk of their own.
struct Spools {
    folder: PathBuf,
    disk: Option<Tmpfs>,
}

impl Spools {
    /// Megabytes; only what is used is taken from memory.
    const ROOM: u64 = 1_024;

    fn new(otherwise: &Path) -> Self {
        let disk = Tmpfs::mount(Self::ROOM);
        Self {
            folder: disk.as_ref().map_or(otherwise, Tmpfs::path).to_owned(),
            disk,
        }
    }

    fn settings(&self, settings: &Settings, owner: &str) -> Settings {
        settings.with("ORDERSTREAM_DATA_DIR", self.folder.join(owner).to_str().unwrap())
    }

    fn are_empty(&self) -> bool {
        ["serve", "run"].iter().all(|owner| {
            let file = self.folder.join(owner).join("spool.db");
            !file.exists() || sqlite::is_read_and_acked(&file)
        })
    }
}

impl Services {
    pub async fn start() -> Self {
        Self::start_with(false).await
    }

    /// With a spool beside `serve` and `run`.
    pub async fn start_with_spools() -> Self {
        Self::start_with(true).await
    }

    async fn start_with(spools: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::install(folder.path());
        let redis = RedisServer::start_with(RedisOptions {
            durable: true,
            config: vec!["busy-reply-threshold 200".to_owned()],
            ..RedisOptions::default()
        })
        .await;
        // Deadlocks are noticed before any of our own timeouts.
        let postgres = Cluster::start(&[("deadlock_timeout", "200ms")], &[]).await;
        let tables = Tmpfs::mount(TABLES_ROOM);
        if let Some(tables) = &tables {
            own(tables.path());
            let place = tables.path().display();
            postgres.sql("postgres", &format!("CREATE TABLESPACE tight LOCATION '{place}'"));
            postgres.sql("postgres", "ALTER DATABASE postgres SET default_tablespace = tight");
        }
        let redis_socket = PathBuf::from(redis.url().trim_start_matches("unix://"));
        let postgres_socket = format!("{}/.s.PGSQL.{}", postgres.host(), postgres.port);
        let redis_path = Proxy::before(redis_socket, Dialect::Redis).await;
        let postgres_path = Proxy::before(postgres_socket.into(), Dialect::Bytes).await;
        let settings = Settings::new(
            &format!("redis://127.0.0.1:{}", redis_path.port),
            &format!(
                "postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable",
                postgres_path.port
            ),
        )
        .with("ORDERSTREAM_KEEP_RAW", "full")
        .with("ORDERSTREAM_DEAD_LETTERS_MAXLEN", "1000000")
        .with("ORDERSTREAM_READ_COUNT", "100")
        .with("ORDERSTREAM_WORKERS", "2")
        .with("ORDERSTREAM_SHUTDOWN_GRACE", "5s")
        .with("RUST_LOG", "info");
        let settings = clock.as_ref().map_or(settings.clone(), |clock| clock.apply(&settings));
        let spools = spools.then(|| Spools::new(folder.path()));
        let ingesting = |command| {
            spools
                .as_ref()
                .map_or(settings.clone(), |spools| spools.settings(&settings, command))
        };
        let plant = Self {
            serve: Process::start("serve", ingesting("serve")).await,
            run: Process::start("run", ingesting("run")).await,
            work: Process::start("work", settings.clone()).await,
            redis: Mutex::new(redis),
            postgres,
            redis_path,
            postgres_path,
            clock,
            tables,
            spools,
            suffering: OneAtATime::new(),
            _folder: folder,
        };
        eventually("the tables are there", PATIENCE, async || {
            let asked = "SELECT to_regclass('orderstream.order_events') IS NOT NULL";
            (plant.postgres.sql("postgres", asked) == "t").then_some(())
        })
        .await;
        plant
    }

    async fn redis_suffers(&self, fault: Fault, lasts: Duration) {
        let mut redis = self.redis.lock().await;
        let config = ["CONFIG", "SET", "maxmemory"];
        match fault {
            Fault::Stop(_) => {
                redis.stall();
                sleep(lasts).await;
                redis.resume();
            }
            Fault::GroupDestroyed => {
                let destroy = ["XGROUP", "DESTROY", "orders_stream", "pipeline_workers"];
                redis.command::<redis::Value>(&destroy).await;
            }
            Fault::ScriptsFlushed => redis.command(&["SCRIPT", "FLUSH"]).await,
            Fault::MemoryFull => {
                redis.command::<()>(&[&config[..], &["1"]].concat()).await;
                sleep(lasts).await;
                redis.command::<()>(&[&config[..], &["0"]].concat()).await;
            }
            Fault::ScriptHangs => {
                let hang = redis.try_command::<redis::Value>(&["EVAL", "while true do end", "0"]);
                let end = async {
                    sleep(lasts).await;
                    // Killed only once it counts as busy.
                    eventually("the script is killed", PATIENCE, async || {
                        redis.try_command::<String>(&["SCRIPT", "KILL"]).await.ok()
                    })
                    .await;
                };
                let _ = tokio::join!(hang, end);
            }
            Fault::MadeReplica => {
                redis.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
                sleep(lasts).await;
                redis.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
            }
            _ => {
                redis.kill();
                sleep(lasts).await;
                redis.restart().await;
            }
        }
    }

    async fn postgres_suffers(&self, fault: Fault, lasts: Duration) {
        match fault {
            Fault::Stop(_) => {
                self.postgres.freeze();
                sleep(lasts).await;
                self.postgres.thaw();
            }
            Fault::SessionsEnded => {
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                           WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                self.postgres.sql("postgres", end);
            }
            Fault::TableLocked => {
                let lock = "BEGIN; LOCK TABLE orderstream.order_events IN EXCLUSIVE MODE";
                let session = self.postgres.session("postgres", lock).await;
                sleep(lasts).await;
                drop(session);
            }
            Fault::Deadlocks => {
                // Where it has to wait longer than it wants, it is the one that gives up.
                let _ = tokio::time::timeout(lasts, self.cross()).await;
            }
            Fault::DiskFull(_) => {
                disk_suffers(self.tables.as_ref(), lasts).await;
            }
            _ => {
                self.postgres.kill();
                sleep(lasts).await;
                self.postgres.restart().await;
            }
        }
    }

    async fn letters(&self) -> Vec<(String, HashMap<String, String>)> {
        let redis = self.redis.lock().await;
        redis.command(&["XRANGE", "dead_letters", "-", "+"]).await
    }

    /// Locks the hot orders from the far end, so that whoever goes the other way meets it.
    async fn cross(&self) {
        // Of those that are hot now; the others' numbers are far longer.
        let newest = "SELECT max(order_id::bigint) FROM orderstream.orders WHERE length(order_id) < 10";
        let lock = |order: u64| format!("SELECT 1 FROM orderstream.orders WHERE order_id = '{order}' FOR UPDATE");
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name <> 'chaos'";
        loop {
            let session = self
                .postgres
                .session("postgres", "SET application_name = 'chaos'")
                .await;
            let newest = session.query_one(newest, &[]).await;
            let newest = newest.ok().and_then(|row| row.get::<_, Option<i64>>(0));
            let last = newest.map_or(FIRST_HOT_ORDER + HOT_ORDERS - 1, |newest| newest.try_into().unwrap());
            let begun = session.batch_execute(&format!("BEGIN; {}", lock(last))).await;
            while begun.is_ok() && session.query(waiting, &[]).await.is_ok_and(|rows| rows.is_empty()) {
                sleep(Duration::from_millis(5)).await;
            }
            for order in last + 1 - HOT_ORDERS..last {
                if session.batch_execute(&lock(order)).await.is_err() {
                    break;
                }
            }
        }
    }
}

impl Plant for Services {
    fn title(&self) -> &'static str {
        match self.spools {
            Some(_) => "Redis with a spool, and PostgreSQL",
            None => "Redis and PostgreSQL",
        }
    }

    fn deck(&self) -> Vec<Fault> {
        let mut deck = fault::for_services(self.clock.is_some(), self.tables.is_some());
        if self.spools.as_ref().is_some_and(|spools| spools.disk.is_some()) {
            deck.push(Fault::DiskFull(Target::Folder));
        }
        deck
    }

    async fn suffer(&self, planned: &Planned) {
        let Planned { fault, lasts, at, .. } = *planned;
        let _alone = self.suffering.turn(fault.target()).await;
        match fault.target() {
            Target::Serve => self.serve.suffer(fault, lasts).await,
            Target::Run => self.run.suffer(fault, lasts).await,
            Target::Work => self.work.suffer(fault, lasts).await,
            Target::Redis => self.redis_suffers(fault, lasts).await,
            Target::Postgres => self.postgres_suffers(fault, lasts).await,
            Target::RedisPath => path_suffers(&self.redis_path, fault, lasts, at).await,
            Target::PostgresPath => path_suffers(&self.postgres_path, fault, lasts, at).await,
            Target::Clock => clock_suffers(self.clock.as_ref(), fault, lasts).await,
            Target::Primary | Target::Sentinels => unreachable!("not in the deck"),
            Target::Folder => {
                let disk = self.spools.as_ref().and_then(|spools| spools.disk.as_ref());
                disk_suffers(disk, lasts).await;
            }
        }
    }

    async fn doors(&self) -> Vec<Door> {
        vec![self.serve.door().await, self.run.door().await]
    }

    async fn redis(&self) -> Option<redis::Client> {
        let server = self.redis.lock().await;
        Some(redis::Client::open(server.url()).unwrap())
    }

    async fn settles(&self) {
        let limit = 2 * PATIENCE;
        eventually("the spools are empty", limit, async || {
            self.spools.as_ref().is_none_or(Spools::are_empty).then_some(())
        })
        .await;
        everything_is_acked(&*self.redis.lock().await).await;
    }

    async fn ends(&self) -> Ends {
        let session = self.postgres.session("postgres", "SELECT 1").await;
        let mut ends = ends::of_postgres(&session).await;
        let letters = self.letters().await;
        ends.letters = letters.iter().map(|(_, fields)| ends::letter(fields)).collect();
        ends
    }

    async fn reported(&self) -> u64 {
        let mut reported = 0;
        for process in [&self.serve, &self.run, &self.work] {
            reported += process.figure("orderstream_entries_lost_total").await;
        }
        reported
    }

    async fn signs(&self) -> Vec<(&'static str, u64)> {
        let log = std::fs::read_to_string(format!("{}/log", self.postgres.host())).unwrap();
        let logged = |text: &str| u64::try_from(log.matches(text).count()).unwrap();
        let letters = self.letters().await;
        let off = letters
            .iter()
            .filter(|(id, fields)| is_off(id, &fields["failed_at"]))
            .count();
        vec![
            ("commands that met a fault on the way to Redis", self.redis_path.hits()),
            (
                "pieces that met a fault on the way to PostgreSQL",
                self.postgres_path.hits(),
            ),
            ("deadlocks that PostgreSQL broke", logged("deadlock detected")),
            (
                "writes that PostgreSQL had no room for",
                logged("No space left on device"),
            ),
            ("waits for locks that timed out", logged("due to lock timeout")),
            ("dead letters dated by a wrong clock", u64::try_from(off).unwrap()),
        ]
    }
}

/// Whether a time that our process wrote is hours off Redis' own, by which the entry has its id.
fn is_off(id: &str, written: &str) -> bool {
    let millis: i128 = id.split('-').next().unwrap().parse().unwrap();
    let written = OffsetDateTime::parse(written, &Rfc3339).unwrap();
    (written.unix_timestamp_nanos() / 1_000_000 - millis).abs() > 6 * 3_600_000
}

/// Waits until everything that is in the stream was read and acked.
pub async fn everything_is_acked(redis: &RedisServer) {
    eventually("all entries are read and acked", 2 * PATIENCE, async || {
        is_acked(redis, "orders_stream").await?.then_some(())
    })
    .await;
}

/// Whether everything that is in that log was read and acked; `None` where that is not known.
pub async fn is_acked(redis: &RedisServer, log: &str) -> Option<bool> {
    let stream: redis::Value = redis.try_command(&["XINFO", "STREAM", log]).await.ok()?;
    let groups: Vec<redis::Value> = redis.try_command(&["XINFO", "GROUPS", log]).await.ok()?;
    let group = groups.first()?;
    let is_read = text(&stream, "last-generated-id")? == text(group, "last-delivered-id")?;
    Some(is_read && text(group, "pending")? == "0")
}

/// One value of a reply of names and values.
fn text(reply: &redis::Value, name: &str) -> Option<String> {
    let pairs: Vec<redis::Value> = redis::from_redis_value_ref(reply).ok()?;
    let found = pairs.chunks(2).find(|pair| {
        let key: Option<String> = redis::from_redis_value_ref(&pair[0]).ok();
        key.as_deref() == Some(name)
    })?;
    redis::from_redis_value_ref(&found[1]).ok()
}

async fn path_suffers(path: &Proxy, fault: Fault, lasts: Duration, at: Duration) {
    path.set(match fault {
        Fault::Refused(refusal) => Mode::Refuse(refusal),
        Fault::RepliesCut(_) => Mode::DropReplies,
        // Below our own timeouts and above them.
        Fault::Slow(_) => {
            Mode::Slow(Duration::from_millis(500) + Duration::from_millis(800) * (at.subsec_millis() / 100 % 4))
        }
        _ => Mode::Silent,
    });
    sleep(lasts).await;
    path.set(Mode::Pass);
}
