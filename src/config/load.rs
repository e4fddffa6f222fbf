//! From what was given to a `Config`; `validate.rs` says whether it is valid as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::layers::{ConfigErrors, LayeredValues};
use super::model::{
    AdminConfig, AppenderConfig, CaptureConfig, Config, DatabaseConfig, Durability, Inputs, IntakeConfig, KeepRaw,
    LogConfig, LogFormat, PublicConfig, Purpose, RedisConfig, Reloaded, ShutdownConfig, StreamConfig, WorkerConfig,
};
use super::report::SettingsReport;
use super::retention::RetentionConfig;
use super::settings as s;
use super::thresholds::{Ages, DeadLetterLevels, HealthConfig, Levels};
use super::validate::statement_timeout;
use super::{parse, secrets, shopify, spans, suggest};
use crate::open_files;

/// Why `serve` and `work` need servers.
const ONE_PROCESS: &str = "what is kept in the data folder instead belongs to one process that does everything";

impl Config {
    /// Reads flags, environment and files: the configuration file, those of `NAME_FILE` and those
    /// that settings name are all it touches.
    ///
    /// # Errors
    /// Everything that is wrong, at once: values, and contradictions between them.
    pub fn load(purpose: Purpose, inputs: Inputs) -> Result<Self, ConfigErrors> {
        let mut values = LayeredValues::read(&inputs);
        let (access, auth) = secrets::auth(&mut values);
        let redis = redis(&mut values, purpose);
        let database = database(&mut values, purpose);
        let spool_after = spool_after(&values, redis.as_ref());
        // On a volume that was not chosen to outlive the process, what is answered 200 would vanish
        // with it.
        let has_spool = redis.is_some() && values.is_given(&s::DATA_DIR);
        let capture = capture(&mut values, purpose);
        let shopify_admin = shopify::admin(&mut values, access);
        let (exports_spans, no_spans) = spans::exported(&inputs.env);
        let host = host(&inputs);
        let config = Self {
            public: public(&values),
            admin: AdminConfig {
                addr: (purpose.ingests() || values.is_given(&s::ADMIN_ADDR)).then(|| address(&values, &s::ADMIN_ADDR)),
                hosts: parse::list(values.text(&s::ADMIN_HOSTS).unwrap_or_default())
                    .map(str::to_owned)
                    .collect(),
                token: values.secret(&s::ADMIN_TOKEN),
            },
            auth,
            intake: intake(&values),
            stream: stream(&values),
            redis,
            appender: AppenderConfig {
                writers: values.small(&s::WRITERS),
                queue: values.small(&s::QUEUE),
                flush_entries: values.small(&s::FLUSH_ENTRIES),
                deadline: values.duration(&s::APPEND_DEADLINE),
                spool_after,
            },
            spool_limit: has_spool.then(|| values.size(&s::SPOOL_LIMIT) as u64),
            database,
            worker: worker(&values, &host),
            erases_on_request: values.text(&s::ERASURE) == Some("auto"),
            retention: RetentionConfig::of(&values),
            host,
            capture,
            shopify_admin,
            shutdown: ShutdownConfig {
                drain_delay: values.duration(&s::DRAIN_DELAY),
                grace: values.duration(&s::SHUTDOWN_GRACE),
            },
            health: health(&values),
            log: LogConfig {
                format: if values.text(&s::LOG_FORMAT) == Some("json") {
                    LogFormat::Json
                } else {
                    LogFormat::Text
                },
                filter: values.string(&s::RUST_LOG),
            },
            exports_spans,
            data_dir: PathBuf::from(values.string(&s::DATA_DIR)),
            warnings: Vec::new(),
            unknown_names: suggest::names(&inputs.env),
            settings: Arc::default(),
            inputs,
            purpose,
        };
        config.validate(&mut values);
        let warnings = config.collect_warnings().into_iter().chain(no_spans).collect();
        let settings = Arc::new(SettingsReport::of(&values, config.is_local()));
        let config = Self {
            warnings,
            settings,
            ..config
        };
        values.finish().map(|()| config)
    }

    /// Reads every file again; flags and environment stay as they were at start. Changes nothing in
    /// `self`.
    ///
    /// # Errors
    /// What is wrong now. The caller keeps what it has and says so.
    pub fn reload(&self) -> Result<Reloaded, ConfigErrors> {
        let mut fresh = Self::load(self.purpose, self.inputs.clone())?;
        if fresh.is_local() {
            fresh.auth = self.auth.clone();
            fresh.admin.token.clone_from(&self.admin.token);
        }
        Ok(Reloaded {
            auth: fresh.auth,
            admin_token: fresh.admin.token,
            redis_url: fresh.redis.map(|redis| redis.url),
            migrate_url: fresh
                .database
                .as_ref()
                .and_then(|database| database.migrate_url.clone()),
            database_url: fresh.database.map(|database| database.url),
        })
    }
}

/// Under `appendfsync everysec` the proof of an fsync takes about a second.
fn spool_after(values: &LayeredValues, redis: Option<&RedisConfig>) -> Duration {
    let is_proven = redis.is_some_and(|redis| redis.durability != Durability::Received);
    let usual = Duration::from_millis(if is_proven { 1500 } else { 500 });
    values.duration_given(&s::SPOOL_AFTER).unwrap_or(usual)
}

fn address(values: &LayeredValues, setting: &s::Setting) -> SocketAddr {
    values
        .text(setting)
        .and_then(parse::address)
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn public(values: &LayeredValues) -> PublicConfig {
    let port = values.text(&s::PORT).and_then(|port| port.parse().ok());
    let addr = match port {
        Some(port) if !values.is_given(&s::LISTEN_ADDR) => SocketAddr::from(([0, 0, 0, 0], port)),
        _ => address(values, &s::LISTEN_ADDR),
    };
    PublicConfig {
        addr,
        chosen: port.is_some() || values.is_given(&s::LISTEN_ADDR),
        keep_alive: values.duration(&s::KEEP_ALIVE),
        header_timeout: values.duration(&s::HEADER_TIMEOUT),
        body_timeout: values.duration(&s::BODY_TIMEOUT),
        max_connections: values
            .small_given(&s::MAX_CONNECTIONS)
            .unwrap_or_else(open_files::default_connections),
    }
}

fn intake(values: &LayeredValues) -> IntakeConfig {
    IntakeConfig {
        body_limit: values.size(&s::BODY_LIMIT),
        batch_body_limit: values.size(&s::BATCH_BODY_LIMIT),
        batch_limit: values.small(&s::BATCH_LIMIT),
        bytes_in_flight: values.size(&s::BYTES_IN_FLIGHT),
        keep_raw: match values.text(&s::KEEP_RAW) {
            Some("full") => KeepRaw::Full,
            Some("redacted") => KeepRaw::Redacted,
            _ => KeepRaw::Off,
        },
        shop_binding: values.text(&s::SHOP_BINDING) != Some("off"),
        keep_note_attributes: names(values, &s::KEEP_NOTE_ATTRIBUTES),
        keep_line_properties: names(values, &s::KEEP_LINE_PROPERTIES),
    }
}

fn names(values: &LayeredValues, setting: &s::Setting) -> Arc<[String]> {
    let names = parse::list(values.text(setting).unwrap_or_default());
    names.map(str::to_owned).collect()
}

fn stream(values: &LayeredValues) -> StreamConfig {
    let maxlen = values.count(&s::STREAM_MAXLEN);
    StreamConfig {
        name: values.string(&s::STREAM),
        group: values.string(&s::GROUP),
        dead_letters: values.string(&s::DEAD_LETTER_STREAM),
        partitions: values
            .count_given(&s::PARTITIONS)
            .and_then(|count| count.try_into().ok()),
        maxlen,
        retain_acked: values
            .count_given(&s::RETAIN_ACKED)
            .unwrap_or_else(|| (maxlen / 10).min(10_000)),
        dead_letters_maxlen: values.count(&s::DEAD_LETTERS_MAXLEN),
        dedupe_window: (values.text(&s::DEDUPE_BY) != Some("off")).then(|| values.duration(&s::DEDUPE_WINDOW)),
    }
}

fn redis(values: &mut LayeredValues, purpose: Purpose) -> Option<RedisConfig> {
    let ca_file = values.text(&s::REDIS_CA_FILE).map(PathBuf::from);
    if let Some(path) = &ca_file
        && let Err(error) = std::fs::File::open(path)
    {
        let why = format!("{} cannot be opened: {error}", path.display());
        values.refuse(&s::REDIS_CA_FILE, why, s::REDIS_CA_FILE.kind.to_string());
    }
    let Some(url) = values.secret(&s::REDIS_URL) else {
        match purpose {
            Purpose::Serve | Purpose::Work | Purpose::Capture => {
                let expected = "the address of a Redis 7.0 or Valkey server, such as redis://127.0.0.1:6379; or \
                                `orderstream run`, which needs none";
                values.contradict(&[&s::REDIS_URL], format!("not set, and {ONE_PROCESS}"), expected);
            }
            Purpose::Run => refuse_what_needs_redis(values),
            Purpose::Migrate | Purpose::Status | Purpose::Client => {}
        }
        return None;
    };
    let encrypted = values.text(&s::REDIS_URL).is_some_and(|url| url.starts_with("rediss"));
    if ca_file.is_some() && !encrypted {
        values.contradict(
            &[&s::REDIS_CA_FILE, &s::REDIS_URL],
            "a CA is given, and the connection is not encrypted",
            "a REDIS_URL that begins with rediss://, rediss+sentinel:// or rediss+cluster://",
        );
    }
    let usual = values.small(&s::WRITERS) + values.small(&s::WORKERS) + 4;
    Some(RedisConfig {
        url,
        ca_file,
        pool_size: values.small_given(&s::REDIS_POOL_SIZE).unwrap_or(usual),
        connect_timeout: values.duration(&s::REDIS_CONNECT_TIMEOUT),
        response_timeout: values
            .duration_given(&s::REDIS_RESPONSE_TIMEOUT)
            .unwrap_or_else(|| values.duration(&s::APPEND_DEADLINE).min(Duration::from_secs(2))),
        durability: values
            .text(&s::DURABILITY)
            .and_then(parse::durability)
            .unwrap_or_default(),
    })
}

/// Settings that would silently mean nothing on a file.
fn refuse_what_needs_redis(values: &mut LayeredValues) {
    if values.is_given(&s::REDIS_CA_FILE) {
        values.contradict(
            &[&s::REDIS_CA_FILE, &s::REDIS_URL],
            "a CA is given, and no server",
            "a REDIS_URL that begins with rediss://, rediss+sentinel:// or rediss+cluster://",
        );
    }
    if values.count_given(&s::PARTITIONS).is_some_and(|count| count > 1) {
        values.contradict(
            &[&s::PARTITIONS, &s::REDIS_URL],
            "a stream in a file has one partition",
            "the address of a Redis, or one partition",
        );
    }
    let durability = values.text(&s::DURABILITY).and_then(parse::durability);
    if matches!(durability, Some(Durability::Replicated(_))) {
        values.contradict(
            &[&s::DURABILITY, &s::REDIS_URL],
            "a file has no replicas; what it confirms has reached the disk",
            "the address of a Redis with replicas, or `fsynced`",
        );
    }
}

fn database(values: &mut LayeredValues, purpose: Purpose) -> Option<DatabaseConfig> {
    let migrate_url = values.secret(&s::MIGRATE_DATABASE_URL);
    let url = match values.secret(&s::DATABASE_URL) {
        None if purpose == Purpose::Migrate => migrate_url.clone(),
        url => url,
    };
    let Some(url) = url else {
        let address = "the address of a PostgreSQL 14 or newer, such as postgres://user:password@host/database";
        if purpose == Purpose::Work {
            let expected = format!("{address}; or `orderstream run`, which needs none");
            values.contradict(&[&s::DATABASE_URL], format!("not set, and {ONE_PROCESS}"), expected);
        } else if purpose == Purpose::Run && migrate_url.is_some() {
            let why = "a role to migrate as is given, and no database";
            values.contradict(&[&s::MIGRATE_DATABASE_URL, &s::DATABASE_URL], why, address);
        }
        return None;
    };
    Some(DatabaseConfig {
        url,
        migrate_url,
        schema: values.string(&s::DATABASE_SCHEMA),
        pool_size: values
            .small_given(&s::DATABASE_POOL_SIZE)
            .unwrap_or_else(|| values.small(&s::WORKERS) + 2),
        connect_timeout: values.duration(&s::DATABASE_CONNECT_TIMEOUT),
        statement_timeout: statement_timeout(values),
        forget_key: values.secret(&s::FORGET_KEY),
    })
}

fn capture(values: &mut LayeredValues, purpose: Purpose) -> Option<CaptureConfig> {
    let Some(url) = values.secret(&s::CAPTURE_DATABASE_URL) else {
        if purpose == Purpose::Capture {
            let expected = "the address of the shop's own PostgreSQL, such as postgres://user:password@host/database";
            values.contradict(
                &[&s::CAPTURE_DATABASE_URL],
                "not set, and nothing else is captured",
                expected,
            );
        }
        return None;
    };
    Some(CaptureConfig {
        url,
        read_url: values.secret(&s::CAPTURE_READ_URL),
        file: PathBuf::from(values.string(&s::CAPTURE_FILE)),
        batch: values.small(&s::CAPTURE_BATCH),
        takes_snapshot: values.text(&s::CAPTURE_SNAPSHOT) != Some("none"),
        snapshot_rate: u32::try_from(values.count(&s::CAPTURE_SNAPSHOT_RATE)).unwrap_or(u32::MAX),
        resyncs_on_gap: values.text(&s::CAPTURE_ON_GAP) != Some("report"),
        ack_delay: values.duration(&s::CAPTURE_ACK_DELAY),
        heartbeat: values.duration_given(&s::CAPTURE_HEARTBEAT),
        connect_timeout: values.duration(&s::DATABASE_CONNECT_TIMEOUT),
    })
}

fn worker(values: &LayeredValues, host: &str) -> WorkerConfig {
    WorkerConfig {
        workers: values.small(&s::WORKERS),
        consumer: values
            .text(&s::CONSUMER_NAME)
            .map_or_else(|| own_name(host), str::to_owned),
        read_count: values.small(&s::READ_COUNT),
        block: values.duration(&s::BLOCK),
        max_deliveries: u32::try_from(values.count(&s::MAX_DELIVERIES)).unwrap_or(u32::MAX),
        claim_idle: values.duration(&s::CLAIM_IDLE),
        retry_delay: values.duration(&s::RETRY_DELAY),
        consumer_ttl: values.duration(&s::CONSUMER_TTL),
    }
}

/// Host and something random: two processes with one name would take each other's pending entries.
fn own_name(host: &str) -> String {
    format!("{host}-{}", hex::encode(rand::random::<[u8; 4]>()))
}

/// This machine or container, as it calls itself.
fn host(inputs: &Inputs) -> String {
    let kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = inputs
        .env
        .get("HOSTNAME")
        .filter(|name| !name.is_empty())
        .cloned()
        .or_else(kernel);
    host.as_deref().map_or("worker", str::trim).to_owned()
}

fn health(values: &LayeredValues) -> HealthConfig {
    let levels = |warning, critical| Levels {
        warning: values.count(warning),
        critical: values.count(critical),
    };
    HealthConfig {
        after: values.duration(&s::HEALTH_AFTER),
        pending_warning: values.count_given(&s::HEALTH_PENDING_WARNING),
        pending_critical: values.count_given(&s::HEALTH_PENDING_CRITICAL),
        length_percent: levels(&s::HEALTH_LENGTH_WARNING, &s::HEALTH_LENGTH_CRITICAL),
        lag: levels(&s::HEALTH_LAG_WARNING, &s::HEALTH_LAG_CRITICAL),
        backlog_age: Ages {
            warning: values.duration(&s::HEALTH_BACKLOG_AGE_WARNING),
            critical: values.duration(&s::HEALTH_BACKLOG_AGE_CRITICAL),
        },
        warehouse_critical: values.duration(&s::HEALTH_WAREHOUSE_CRITICAL),
        idle_consumers: levels(&s::HEALTH_IDLE_CONSUMERS_WARNING, &s::HEALTH_IDLE_CONSUMERS_CRITICAL),
        dead_letters: DeadLetterLevels {
            window: values.duration(&s::HEALTH_DEAD_LETTERS_WINDOW),
            new: levels(&s::HEALTH_DEAD_LETTERS_WARNING, &s::HEALTH_DEAD_LETTERS_CRITICAL),
            share_percent: values.count(&s::HEALTH_DEAD_LETTERS_SHARE),
            unresolved: values.duration_given(&s::HEALTH_DEAD_LETTERS_UNRESOLVED),
        },
        capture_wal: Levels {
            warning: values.size(&s::HEALTH_CAPTURE_WAL_WARNING) as u64,
            critical: values.size(&s::HEALTH_CAPTURE_WAL_CRITICAL) as u64,
        },
        silence: values.duration_given(&s::HEALTH_SILENCE),
        unauthorized_percent: values.count(&s::HEALTH_UNAUTHORIZED),
    }
}
