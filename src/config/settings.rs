//! The table of settings: the only place that names them. Flags, environment, help and
//! documentation come from it.

use std::fmt;
use std::time::Duration;

use super::parse;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its variable.
    pub name: &'static str,
    /// Heading it stands under.
    pub section: &'static str,
    /// What its value looks like.
    pub kind: ValueKind,
    /// Its value where none is given.
    pub default: Fallback,
    /// One line on what it does.
    pub help: &'static str,
}

/// What holds where nothing is set.
#[derive(Debug, Clone, Copy)]
pub enum Fallback {
    /// Nothing.
    Unset,
    /// This text.
    Text(&'static str),
    /// Something that depends on other settings or on the host, in words.
    Derived(&'static str),
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub enum ValueKind {
    /// Any text without control characters.
    Text,
    /// An IP address and a port.
    Address,
    /// A port.
    Port,
    /// Host names, at commas or line ends.
    Hosts,
    /// Address of a service, which may hold a password; the schemes that are understood.
    Url(&'static [&'static str]),
    /// One secret.
    Secret,
    /// Secrets, at commas or line ends.
    Secrets,
    /// A file that must be readable.
    File,
    /// A folder.
    Folder,
    /// A schema of PostgreSQL.
    Schema,
    /// A duration within bounds, milliseconds.
    Duration(u64, u64),
    /// The same, or `off`.
    DurationOrOff(u64, u64),
    /// Bytes within bounds.
    Size(u64, u64),
    /// A whole number within bounds.
    Count(u64, u64),
    /// 0 to 100.
    Percent,
    /// What a confirmed append survives.
    Durability,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Directives for the log.
    LogFilter,
}

impl ValueKind {
    /// Whether the value must never be printed. Such settings also come as `NAME_FILE`.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Secret | Self::Secrets)
    }

    /// Whether the text is a value of this kind. Touches no file.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        let within = |number: Option<u64>, low: u64, high: u64| number.is_some_and(|n| (low..=high).contains(&n));
        let millis =
            |text| parse::duration(text).and_then(|duration: Duration| u64::try_from(duration.as_millis()).ok());
        match *self {
            Self::Text | Self::Secret | Self::File | Self::Folder => !text.chars().any(char::is_control),
            Self::Address => parse::address(text).is_some(),
            Self::Hosts => parse::list(text).next().is_some() && parse::list(text).all(parse::host),
            Self::Port => within(parse::whole(text), 0, u64::from(u16::MAX)),
            Self::Url(schemes) => text
                .split_once("://")
                .is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty()),
            Self::Secrets => parse::list(text).next().is_some(),
            Self::Schema => parse::schema(text),
            Self::Durability => parse::durability(text).is_some(),
            Self::DurationOrOff(..) if text == "off" => true,
            Self::Duration(low, high) | Self::DurationOrOff(low, high) => within(millis(text), low, high),
            Self::Size(low, high) => within(parse::size(text), low, high),
            Self::Count(low, high) => within(parse::whole(text), low, high),
            Self::Percent => parse::percent(text).is_some(),
            Self::Choice(words) => words.contains(&text),
            Self::LogFilter => tracing_subscriber::EnvFilter::builder().parse(text).is_ok(),
        }
    }
}

/// What is expected, for error texts and help.
impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |low, high| {
            let show = |millis| parse::show_duration(Duration::from_millis(millis));
            format!(
                "a duration from {} to {}, written like 500ms, 2s or 6h",
                show(low),
                show(high)
            )
        };
        match self {
            Self::Text => f.write_str("text without control characters"),
            Self::Address => f.write_str("an IP address and a port, such as 127.0.0.1:8080"),
            Self::Hosts => f.write_str("host names without scheme and port, separated by commas"),
            Self::Port => f.write_str("a port from 0 to 65535"),
            Self::Url(schemes) => write!(f, "an address that begins with {}://", schemes.join(":// or ")),
            Self::Secret => f.write_str("one secret"),
            Self::Secrets => f.write_str("secrets, separated by commas"),
            Self::File => f.write_str("the path of a readable file"),
            Self::Folder => f.write_str("the path of a folder"),
            Self::Durability => f.write_str("`received`, `fsynced`, or `replicated:N` with 1 to 100 replicas"),
            Self::Schema => f.write_str(
                "a schema of its own: lower-case letters, digits and _, at most 63, not `public` and not PostgreSQL's",
            ),
            Self::Duration(low, high) => f.write_str(&span(*low, *high)),
            Self::DurationOrOff(low, high) => write!(f, "`off` or {}", span(*low, *high)),
            Self::Size(low, high) => {
                let (low, high) = (parse::show_size(*low), parse::show_size(*high));
                write!(f, "a size from {low} to {high}, written like 64KiB, 5MiB or 1GiB")
            }
            Self::Count(low, high) => write!(f, "a whole number from {low} to {high}"),
            Self::Percent => f.write_str("a share from 0% to 100%"),
            Self::Choice(words) => write!(f, "one of `{}`", words.join("`, `")),
            Self::LogFilter => f.write_str("log directives, such as info or orderstream=debug,warn"),
        }
    }
}

impl Setting {
    /// The flag of the same name, without dashes: `listen-addr`.
    #[must_use]
    pub fn flag(&self) -> String {
        let bare = self.name.strip_prefix("ORDERSTREAM_").unwrap_or(self.name);
        bare.to_ascii_lowercase().replace('_', "-")
    }

    /// The variable that names a file with the value, for secrets and URLs.
    #[must_use]
    pub fn file_variable(&self) -> Option<String> {
        self.kind.is_secret().then(|| format!("{}_FILE", self.name))
    }
}

macro_rules! settings {
    ($($section:literal { $($id:ident $name:literal $kind:expr, $default:expr, $help:literal;)* })*) => {
        $($(
            #[doc = $help]
            pub const $id: Setting = Setting { name: $name, section: $section, kind: $kind, default: $default, help: $help };
        )*)*

        /// Every setting, in the order of the documentation.
        pub const ALL: &[Setting] = &[$($($id),*),*];
    };
}

use Fallback::{Derived, Text, Unset};
use ValueKind::{Address, Choice, Count, DurationOrOff, Hosts, Percent, Port, Schema, Secrets, Size, Url};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Larger numbers than any entry count that fits a machine.
const BILLION: u64 = 1_000_000_000;

settings! {
    "File" {
        CONFIG "ORDERSTREAM_CONFIG" ValueKind::File, Unset, "TOML file of settings, by the names of their variables; a flag or a variable wins over it";
    }
    "Storage" {
        REDIS_URL "REDIS_URL" Url(&["redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"]), Unset, "Redis 7.0 or Valkey: redis://, rediss:// (TLS), unix://, redis+sentinel://host,host/NAME for the primary that sentinels name, or redis+cluster://host,host; without it, `run` keeps the stream in DATA_DIR";
        REDIS_CA_FILE "ORDERSTREAM_REDIS_CA_FILE" ValueKind::File, Unset, "PEM file of the CA that signed the certificate of a rediss:// server";
        DATABASE_URL "DATABASE_URL" Url(&["postgres", "postgresql"]), Unset, "PostgreSQL 14 or newer; without it, `run` keeps the warehouse in DATA_DIR";
        MIGRATE_DATABASE_URL "ORDERSTREAM_MIGRATE_DATABASE_URL" Url(&["postgres", "postgresql"]), Unset, "the same database as the role that owns the schema, for migrate";
        DATABASE_SCHEMA "ORDERSTREAM_DATABASE_SCHEMA" Schema, Text("orderstream"), "schema of all tables";
        DATA_DIR "ORDERSTREAM_DATA_DIR" ValueKind::Folder, Text("./data"), "folder of everything kept on disk: stream.db and warehouse.db where no server is configured, the secrets of local mode";
        SPOOL_LIMIT "ORDERSTREAM_SPOOL_LIMIT" Size(MIB, 1024 * GIB), Text("1GiB"), "size of the spool in DATA_DIR, which takes events while Redis is away; on only where DATA_DIR is set";
        SPOOL_AFTER "ORDERSTREAM_SPOOL_AFTER" ValueKind::Duration(50, 2000), Derived("500ms; 1500ms where DURABILITY is not `received`"), "how long an event may wait for Redis before it goes to the spool";
    }
    "Listeners" {
        LISTEN_ADDR "ORDERSTREAM_LISTEN_ADDR" Address, Text("127.0.0.1:8080"), "public: webhooks, batch, health";
        PORT "PORT" Port, Unset, "makes the default listen address 0.0.0.0:PORT";
        ADMIN_ADDR "ORDERSTREAM_ADMIN_ADDR" Address, Text("127.0.0.1:9090"), "private: metrics and the admin API; `work` opens it only where it is set";
        ADMIN_HOSTS "ORDERSTREAM_ADMIN_HOSTS" Hosts, Unset, "further host names, separated by commas, that the private listener answers to, beside IP addresses and localhost";
        KEEP_ALIVE "ORDERSTREAM_KEEP_ALIVE" ValueKind::Duration(1000, HOUR), Text("620s"), "idle time of a kept-alive connection; above the usual load balancers' 600 s";
        HEADER_TIMEOUT "ORDERSTREAM_HEADER_TIMEOUT" ValueKind::Duration(100, 5 * MINUTE), Text("10s"), "from the first byte of a head to its end; also for the first byte of a new connection, and for an answer that is not read";
        BODY_TIMEOUT "ORDERSTREAM_BODY_TIMEOUT" ValueKind::Duration(100, 5 * MINUTE), Text("30s"), "from the end of the head to the last byte of the body";
        MAX_CONNECTIONS "ORDERSTREAM_MAX_CONNECTIONS" Count(1, 1_000_000), Derived("hard limit of open files - 124, at most 5000"), "open connections of the public listener; at the cap the one that has waited longest for its peer gives way to a new one; above 80 % of it (caps below 10 excepted) none is kept alive";
    }
    "Security" {
        SHOPIFY_SECRETS "ORDERSTREAM_SHOPIFY_SECRETS" Secrets, Unset, "webhook secrets, newest first; each verifies";
        SHOP_SECRETS_FILE "ORDERSTREAM_SHOP_SECRETS_FILE" ValueKind::File, Unset, "TOML file of secret lists by shop, which then are the only shops accepted";
        API_TOKENS "ORDERSTREAM_API_TOKENS" Secrets, Unset, "bearer tokens of /events/batch";
        ADMIN_TOKEN "ORDERSTREAM_ADMIN_TOKEN" ValueKind::Secret, Unset, "bearer token of the admin API";
        ERASURE "ORDERSTREAM_ERASURE" Choice(&["manual", "auto"]), Text("manual"), "what follows a customers/redact or shop/redact: manual, a warning of /health until somebody runs `forget`; auto, a worker does the same at once";
        FORGET_KEY "ORDERSTREAM_FORGET_KEY" ValueKind::Secret, Unset, "key of the tombstones in PostgreSQL that `forget` writes; the same for ever and in every process that loads (a file warehouse has its own, forget.key)";
    }
    "Intake" {
        BODY_LIMIT "ORDERSTREAM_BODY_LIMIT" Size(KIB, 256 * MIB), Text("5MiB"), "size of one webhook body";
        BATCH_BODY_LIMIT "ORDERSTREAM_BATCH_BODY_LIMIT" Size(KIB, GIB), Text("32MiB"), "size of one batch body";
        BATCH_LIMIT "ORDERSTREAM_BATCH_LIMIT" Count(1, 1_000_000), Text("10000"), "events of one batch";
        BYTES_IN_FLIGHT "ORDERSTREAM_BYTES_IN_FLIGHT" Size(MIB, 64 * GIB), Text("256MiB"), "all bodies in memory at once; beyond it requests are shed";
        KEEP_RAW "ORDERSTREAM_KEEP_RAW" Choice(&["off", "redacted", "full"]), Text("off"), "the original body beside the event: off, redacted (without personal fields) or full";
        KEEP_NOTE_ATTRIBUTES "ORDERSTREAM_KEEP_NOTE_ATTRIBUTES" ValueKind::Text, Unset, "names, separated by commas, of the note attributes of orders that are kept; they may hold anything that a customer was asked for";
        KEEP_LINE_PROPERTIES "ORDERSTREAM_KEEP_LINE_PROPERTIES" ValueKind::Text, Unset, "names, separated by commas, of the properties of lines that are kept";
        SHOP_BINDING "ORDERSTREAM_SHOP_BINDING" Choice(&["on", "off"]), Text("on"), "on: an order whose order_status_url holds another shop's number than earlier orders of its domain is quarantined; off";
        DEDUPE_BY "ORDERSTREAM_DEDUPE_BY" Choice(&["webhook-id", "off"]), Text("webhook-id"), "webhook-id or off";
        DEDUPE_WINDOW "ORDERSTREAM_DEDUPE_WINDOW" ValueKind::Duration(1000, 30 * DAY), Text("6h"), "lifetime of a dedupe key";
        WRITERS "ORDERSTREAM_WRITERS" Count(1, 64), Text("2"), "writer tasks of the appender, each with one flush in flight; in a cluster so many for each node";
        QUEUE "ORDERSTREAM_QUEUE" Count(1, 1_000_000), Text("10000"), "entries waiting for a flush, in a cluster for each node; beyond it requests are shed";
        FLUSH_ENTRIES "ORDERSTREAM_FLUSH_ENTRIES" Count(1, 1000), Text("256"), "entries of one flush";
        APPEND_DEADLINE "ORDERSTREAM_APPEND_DEADLINE" ValueKind::Duration(100, MINUTE), Text("2500ms"), "from enqueueing an event to its answer; at most 3s";
    }
    "Stream" {
        STREAM "ORDERSTREAM_STREAM" ValueKind::Text, Text("orders_stream"), "key of the stream";
        GROUP "ORDERSTREAM_GROUP" ValueKind::Text, Text("pipeline_workers"), "consumer group of the workers";
        DEAD_LETTER_STREAM "ORDERSTREAM_DEAD_LETTER_STREAM" ValueKind::Text, Text("dead_letters"), "key of the dead letters";
        PARTITIONS "ORDERSTREAM_PARTITIONS" Count(1, 128), Derived("1"), "streams that the events are spread over, an order's in one; needs Redis; in a cluster four for each primary";
        STREAM_MAXLEN "ORDERSTREAM_STREAM_MAXLEN" Count(1, BILLION), Text("100000"), "hard cap of the stream; never met by dropping what a group has not acked";
        RETAIN_ACKED "ORDERSTREAM_RETAIN_ACKED" Count(0, BILLION), Derived("10000, at most a tenth of STREAM_MAXLEN"), "acked entries kept in the stream";
        DEAD_LETTERS_MAXLEN "ORDERSTREAM_DEAD_LETTERS_MAXLEN" Count(1, BILLION), Text("10000"), "hard cap of the dead letters; none is ever evicted";
        DURABILITY "ORDERSTREAM_DURABILITY" ValueKind::Durability, Text("received"), "what Redis has proven before an append is confirmed: received, fsynced (to its append-only file) or replicated:N";
        REDIS_POOL_SIZE "ORDERSTREAM_REDIS_POOL_SIZE" Count(1, 1024), Derived("WRITERS + WORKERS + 4"), "connections to Redis, in a cluster to each node";
        REDIS_CONNECT_TIMEOUT "ORDERSTREAM_REDIS_CONNECT_TIMEOUT" ValueKind::Duration(10, MINUTE), Text("1s"), "bound on connecting to Redis";
        REDIS_RESPONSE_TIMEOUT "ORDERSTREAM_REDIS_RESPONSE_TIMEOUT" ValueKind::Duration(10, MINUTE), Derived("2s, at most APPEND_DEADLINE"), "bound on one answer of Redis";
    }
    "Workers" {
        WORKERS "ORDERSTREAM_WORKERS" Count(1, 256), Text("1"), "workers in this process";
        CONSUMER_NAME "CONSUMER_NAME" ValueKind::Text, Derived("host + random"), "consumer of the first worker; the others get -2, -3, ... appended";
        READ_COUNT "ORDERSTREAM_READ_COUNT" Count(1, 10_000), Text("500"), "entries of one read at most; fewer where they are large: a worker process holds 64 MiB of entries";
        BLOCK "ORDERSTREAM_BLOCK" ValueKind::Duration(10, 5 * MINUTE), Text("5s"), "how long a read waits for the first entry";
        MAX_DELIVERIES "ORDERSTREAM_MAX_DELIVERIES" Count(1, 1000), Text("3"), "attempts at a poison entry before the dead letters";
        CLAIM_IDLE "ORDERSTREAM_CLAIM_IDLE" ValueKind::Duration(100, DAY), Text("60s"), "idle time before a pending entry is claimed";
        RETRY_DELAY "ORDERSTREAM_RETRY_DELAY" ValueKind::Duration(1, HOUR), Text("1s"), "delay after the first failed attempt; doubles with each";
        CONSUMER_TTL "ORDERSTREAM_CONSUMER_TTL" ValueKind::Duration(1000, 30 * DAY), Text("1h"), "silence after which a consumer with nothing pending is removed";
        DATABASE_POOL_SIZE "ORDERSTREAM_DATABASE_POOL_SIZE" Count(1, 1024), Derived("WORKERS + 2"), "connections to PostgreSQL";
        DATABASE_CONNECT_TIMEOUT "ORDERSTREAM_DATABASE_CONNECT_TIMEOUT" ValueKind::Duration(10, 5 * MINUTE), Text("5s"), "bound on connecting to PostgreSQL";
        STATEMENT_TIMEOUT "ORDERSTREAM_STATEMENT_TIMEOUT" ValueKind::Duration(10, DAY), Derived("30s, at most half of CLAIM_IDLE"), "bound on one statement; below CLAIM_IDLE";
    }
    "Retention" {
        RETAIN_RAW "ORDERSTREAM_RETAIN_RAW" DurationOrOff(DAY, 3650 * DAY), Text("90d"), "how long order_events keeps the original body (KEEP_RAW) after its receipt, or off: for ever";
        RETAIN_LETTER_BODIES "ORDERSTREAM_RETAIN_LETTER_BODIES" DurationOrOff(DAY, 3650 * DAY), Text("30d"), "how long dead letters keep the original body, or off: until they are resolved";
        RETAIN_EVENTS "ORDERSTREAM_RETAIN_EVENTS" DurationOrOff(30 * DAY, 3650 * DAY), Text("off"), "how long order_events keeps events after their receipt, of orders that had none since and whose ledger does not need them, or off: for ever";
    }
    "Capture" {
        CAPTURE_DATABASE_URL "ORDERSTREAM_CAPTURE_DATABASE_URL" Url(&["postgres", "postgresql"]), Unset, "the shop's own PostgreSQL, 14 or newer, whose changes are captured; a direct connection, not a pooler";
        CAPTURE_READ_URL "ORDERSTREAM_CAPTURE_READ_URL" Url(&["postgres", "postgresql"]), Unset, "where captured orders are read, if elsewhere: a pooler or a replica of that database";
        CAPTURE_FILE "ORDERSTREAM_CAPTURE_FILE" ValueKind::Text, Text("capture.toml"), "the mapping from tables to orders; read again on SIGHUP";
        CAPTURE_BATCH "ORDERSTREAM_CAPTURE_BATCH" Count(1, 1000), Text("500"), "most orders of one read";
        CAPTURE_SNAPSHOT "ORDERSTREAM_CAPTURE_SNAPSHOT" Choice(&["all", "none"]), Text("all"), "orders that are read at the first start: all or none";
        CAPTURE_SNAPSHOT_RATE "ORDERSTREAM_CAPTURE_SNAPSHOT_RATE" Count(1, 1_000_000), Text("2000"), "orders a second that a snapshot or resync reads";
        CAPTURE_ON_GAP "ORDERSTREAM_CAPTURE_ON_GAP" Choice(&["resync", "report"]), Text("resync"), "when changes were lost: read all orders again, or only report it";
        CAPTURE_HEARTBEAT "ORDERSTREAM_CAPTURE_HEARTBEAT" DurationOrOff(1000, HOUR), Text("60s"), "how often a message is sent through the source's WAL, whose return proves that changes come, or off";
        CAPTURE_ACK_DELAY "ORDERSTREAM_CAPTURE_ACK_DELAY" ValueKind::Duration(0, HOUR), Text("30s"), "how long the source keeps WAL after its events were stored: what Redis loses of them is sent again";
    }
    "Shopify" {
        SHOPIFY_SHOP "ORDERSTREAM_SHOPIFY_SHOP" ValueKind::Text, Unset, "domain of the one shop whose Admin API is asked, such as example.myshopify.com; several stand in SHOP_SECRETS_FILE";
        SHOPIFY_ADMIN_TOKEN "ORDERSTREAM_SHOPIFY_ADMIN_TOKEN" ValueKind::Secret, Unset, "access token of the shop's Admin API; as a file, it is read again when it changes";
        SHOPIFY_CLIENT_ID "ORDERSTREAM_SHOPIFY_CLIENT_ID" ValueKind::Text, Unset, "client id of an app of the Dev Dashboard, which gets its own access tokens, of 24 hours";
        SHOPIFY_CLIENT_SECRET "ORDERSTREAM_SHOPIFY_CLIENT_SECRET" ValueKind::Secret, Unset, "client secret of that app";
        SHOPIFY_API_VERSION "ORDERSTREAM_SHOPIFY_API_VERSION" ValueKind::Text, Text("2026-07"), "version of the Admin API";
        SHOPIFY_BUDGET "ORDERSTREAM_SHOPIFY_BUDGET" Percent, Text("50%"), "share of a shop's rate limit that is used; the rest is left to its other apps";
        SHOPIFY_ADMIN_URL "ORDERSTREAM_SHOPIFY_ADMIN_URL" Url(&["http", "https"]), Derived("https:// and the shop's domain"), "where the Admin API is reached, for proxies and tests";
    }
    "Shutdown" {
        DRAIN_DELAY "ORDERSTREAM_DRAIN_DELAY" ValueKind::Duration(0, HOUR), Text("0s"), "readiness off this long before draining";
        SHUTDOWN_GRACE "ORDERSTREAM_SHUTDOWN_GRACE" ValueKind::Duration(100, HOUR), Text("25s"), "time for the whole shutdown, drain delay included";
    }
    "Health" {
        HEALTH_AFTER "ORDERSTREAM_HEALTH_AFTER" ValueKind::Duration(0, HOUR), Text("30s"), "how long a state must last before it warns";
        HEALTH_PENDING_WARNING "ORDERSTREAM_HEALTH_PENDING_WARNING" Count(1, BILLION), Derived("above max(100, 2 x consumers x READ_COUNT)"), "pending entries: lowest number that warns";
        HEALTH_PENDING_CRITICAL "ORDERSTREAM_HEALTH_PENDING_CRITICAL" Count(1, BILLION), Derived("10 x max(100, 2 x consumers x READ_COUNT)"), "pending entries: above it is critical";
        HEALTH_LENGTH_WARNING "ORDERSTREAM_HEALTH_LENGTH_WARNING" Percent, Text("50%"), "stream length in percent of its cap: lowest share that warns";
        HEALTH_LENGTH_CRITICAL "ORDERSTREAM_HEALTH_LENGTH_CRITICAL" Percent, Text("90%"), "stream length in percent of its cap: above it is critical";
        HEALTH_LAG_WARNING "ORDERSTREAM_HEALTH_LAG_WARNING" Count(1, BILLION), Text("500"), "entries not yet read: lowest number that warns";
        HEALTH_LAG_CRITICAL "ORDERSTREAM_HEALTH_LAG_CRITICAL" Count(1, BILLION), Text("5000"), "entries not yet read: above it is critical";
        HEALTH_BACKLOG_AGE_WARNING "ORDERSTREAM_HEALTH_BACKLOG_AGE_WARNING" ValueKind::Duration(1000, 30 * DAY), Text("1m"), "age of the oldest entry that is unread or pending: lowest age that warns";
        HEALTH_BACKLOG_AGE_CRITICAL "ORDERSTREAM_HEALTH_BACKLOG_AGE_CRITICAL" ValueKind::Duration(1000, 30 * DAY), Text("10m"), "age of the oldest entry that is unread or pending: lowest age that is critical";
        HEALTH_WAREHOUSE_CRITICAL "ORDERSTREAM_HEALTH_WAREHOUSE_CRITICAL" ValueKind::Duration(0, DAY), Text("2m"), "critical when no live worker has reached the warehouse for this long; it warns before";
        HEALTH_IDLE_CONSUMERS_WARNING "ORDERSTREAM_HEALTH_IDLE_CONSUMERS_WARNING" Count(1, 100_000), Text("1"), "idle consumers: lowest number that warns";
        HEALTH_IDLE_CONSUMERS_CRITICAL "ORDERSTREAM_HEALTH_IDLE_CONSUMERS_CRITICAL" Count(1, 100_000), Text("1"), "idle consumers: above it is critical";
        HEALTH_DEAD_LETTERS_WINDOW "ORDERSTREAM_HEALTH_DEAD_LETTERS_WINDOW" ValueKind::Duration(1000, DAY), Text("15m"), "time for which a dead letter counts as new";
        HEALTH_DEAD_LETTERS_WARNING "ORDERSTREAM_HEALTH_DEAD_LETTERS_WARNING" Count(1, BILLION), Text("1"), "new dead letters: lowest number that warns";
        HEALTH_DEAD_LETTERS_CRITICAL "ORDERSTREAM_HEALTH_DEAD_LETTERS_CRITICAL" Count(1, BILLION), Text("100"), "new dead letters: above it is critical";
        HEALTH_DEAD_LETTERS_SHARE "ORDERSTREAM_HEALTH_DEAD_LETTERS_SHARE" Percent, Text("1%"), "new dead letters in percent of what was accepted in that time: lowest share that is critical";
        HEALTH_DEAD_LETTERS_UNRESOLVED "ORDERSTREAM_HEALTH_DEAD_LETTERS_UNRESOLVED" DurationOrOff(1000, 365 * DAY), Text("24h"), "warns when a dead letter is unresolved for this long, or off";
        HEALTH_CAPTURE_WAL_WARNING "ORDERSTREAM_HEALTH_CAPTURE_WAL_WARNING" Size(MIB, 1024 * GIB), Text("1GiB"), "WAL that the source keeps for the capture: lowest size that warns";
        HEALTH_CAPTURE_WAL_CRITICAL "ORDERSTREAM_HEALTH_CAPTURE_WAL_CRITICAL" Size(MIB, 1024 * GIB), Text("10GiB"), "WAL that the source keeps for the capture: above it is critical";
        HEALTH_SILENCE "ORDERSTREAM_HEALTH_SILENCE" DurationOrOff(1000, 365 * DAY), Text("24h"), "warns when nothing was accepted for this long, or off";
        HEALTH_UNAUTHORIZED "ORDERSTREAM_HEALTH_UNAUTHORIZED" Percent, Text("20%"), "share of requests answered 401 that warns";
    }
    "Logs" {
        RUST_LOG "RUST_LOG" ValueKind::LogFilter, Text("info"), "what is logged, such as info or orderstream=debug,warn; that it is up, and where, is always said";
        LOG_FORMAT "ORDERSTREAM_LOG_FORMAT" Choice(&["text", "json"]), Text("text"), "text or json, on stderr";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        for setting in ALL {
            if let Text(default) = setting.default {
                assert!(setting.kind.accepts(default), "{}: {default}", setting.name);
            }
        }
    }

    #[test]
    fn names_and_flags_are_unique() {
        let mut flags: Vec<_> = ALL
            .iter()
            .flat_map(|s| [Some(s.flag()), s.file_variable()])
            .flatten()
            .collect();
        let count = flags.len();
        flags.sort();
        flags.dedup();
        assert_eq!(flags.len(), count);
    }
}
