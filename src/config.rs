//! Configuration: nested structs, one per concern, read once at start (secrets and URLs again on SIGHUP).
//!
//! Owns every default and every bound. Invariants: a `Config` that exists is valid as a whole; a secret never prints.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use secrecy::SecretString as Secret;

/// The public listener.
#[derive(Debug, Clone)]
pub struct PublicConfig {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Idle time after which a kept-alive connection is closed.
    pub keep_alive: Duration,
    /// From the first byte of a head to its end.
    pub header_timeout: Duration,
    /// From the end of the head to the last byte of the body.
    pub body_timeout: Duration,
    /// Connections open at once; further ones wait in the kernel's backlog.
    pub max_connections: usize,
}

/// The private listener.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where it listens; `None`: not at all.
    pub addr: Option<SocketAddr>,
    /// Bearer token of `/api`.
    pub token: Option<Secret>,
}

/// What a request may hold.
#[derive(Debug, Clone)]
pub struct IntakeConfig {
    /// Bytes of one webhook body.
    pub body_limit: usize,
    /// Bytes of one batch body.
    pub batch_body_limit: usize,
    /// Events of one batch.
    pub batch_limit: usize,
    /// Bytes of all bodies in memory at once; beyond it requests are shed.
    pub bytes_in_flight: usize,
    /// Whether the original body is kept beside the event.
    pub keep_raw: KeepRaw,
}

/// `ORDERSTREAM_KEEP_RAW`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeepRaw {
    /// Not kept.
    #[default]
    Off,
    /// Kept without the named personal fields.
    Redacted,
    /// Kept byte for byte.
    Full,
}

/// The stream, whatever stores it.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// Key of the stream.
    pub name: String,
    /// Our consumer group.
    pub group: String,
    /// Key of the dead letters.
    pub dead_letters: String,
    /// Hard cap of the stream.
    pub maxlen: u64,
    /// Acked entries kept.
    pub retain_acked: u64,
    /// Hard cap of the dead letters.
    pub dead_letters_maxlen: u64,
    /// Lifetime of a dedupe key; `None`: dedupe is off.
    pub dedupe_window: Option<Duration>,
}

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://`, `rediss://`, `unix://`.
    pub url: Secret,
    /// PEM file of the CA that signed the server's certificate; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Connections of the pool.
    pub pool_size: usize,
    /// Bound on connecting.
    pub connect_timeout: Duration,
    /// Bound on one command's or flush's answer.
    pub response_timeout: Duration,
}

/// The appender.
#[derive(Debug, Clone)]
pub struct AppenderConfig {
    /// Writer tasks, each with one flush in flight.
    pub writers: usize,
    /// Entries waiting; beyond it requests are shed.
    pub queue: usize,
    /// Entries of one flush.
    pub flush_entries: usize,
    /// From enqueueing to the answer at the latest.
    pub deadline: Duration,
}

/// How to reach PostgreSQL.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `postgres://` or `postgresql://`, as managed databases give it.
    pub url: Secret,
    /// Role that owns the schema, where `migrate` has its own.
    pub migrate_url: Option<Secret>,
    /// Schema of all tables.
    pub schema: String,
    /// Connections of the pool.
    pub pool_size: usize,
    /// Bound on connecting.
    pub connect_timeout: Duration,
    /// Bound on one statement; below `claim_idle`.
    pub statement_timeout: Duration,
}

/// The workers of this process.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How many.
    pub workers: usize,
    /// Name of the first; the others get `-2`, `-3`, ... appended.
    pub consumer: String,
    /// Entries of one read.
    pub read_count: usize,
    /// How long a read waits for the first entry.
    pub block: Duration,
    /// Attempts before the dead letters.
    pub max_deliveries: u32,
    /// Idle time before an entry is claimed.
    pub claim_idle: Duration,
    /// Delay after the first failed attempt; doubles with each.
    pub retry_delay: Duration,
    /// Silence after which a consumer with nothing pending is removed.
    pub consumer_ttl: Duration,
}

/// `ORDERSTREAM_DRAIN_DELAY` and `_SHUTDOWN_GRACE`.
#[derive(Debug, Clone)]
pub struct ShutdownConfig {
    /// Readiness off this long before draining.
    pub drain_delay: Duration,
    /// In all, drain delay included.
    pub grace: Duration,
}
