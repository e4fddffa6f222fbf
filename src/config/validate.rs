//! Contradictions between values, and addresses that are reachable from outside without secrets.

use std::net::SocketAddr;
use std::time::Duration;

use super::layers::LayeredValues;
use super::model::{Config, Purpose, is_exposed};
use super::settings as s;

/// Shopify waits 5 s in all; an answer within this of the last body byte is promised.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

impl Config {
    /// Reports every contradiction.
    pub(super) fn validate(&self, values: &mut LayeredValues) {
        self.validate_sizes(values);
        self.validate_wal(values);
        self.validate_times(values);
        self.validate_pools(values);
        self.validate_exposure(values);
        self.validate_secrets(values);
    }

    fn validate_sizes(&self, values: &mut LayeredValues) {
        if self.stream.retain_acked >= self.stream.maxlen {
            values.contradict(
                &[&s::RETAIN_ACKED, &s::STREAM_MAXLEN],
                "acked entries alone would fill the stream",
                "RETAIN_ACKED below STREAM_MAXLEN",
            );
        }
        if self.stream.partitions.is_some_and(|count| count > 1) {
            if self.stream.name.contains(['{', '}']) {
                values.contradict(
                    &[&s::PARTITIONS, &s::STREAM],
                    "braces in the name would leave no room for the hash tag of each partition",
                    "a STREAM without { and }, or one partition",
                );
            }
            if self.capture.is_some() {
                values.contradict(
                    &[&s::PARTITIONS, &s::CAPTURE_DATABASE_URL],
                    "a capture moves its checkpoint in one step with its entries, which several partitions do not allow",
                    "one partition, or no capture",
                );
            }
        }
        if self.intake.bytes_in_flight < self.intake.body_limit.max(self.intake.batch_body_limit) {
            values.contradict(
                &[&s::BYTES_IN_FLIGHT, &s::BODY_LIMIT, &s::BATCH_BODY_LIMIT],
                "the largest allowed body would never fit",
                "BYTES_IN_FLIGHT of at least the larger body limit",
            );
        }
        if self.stream.name == self.stream.dead_letters {
            values.contradict(
                &[&s::STREAM, &s::DEAD_LETTER_STREAM],
                "stream and dead letters have the same key",
                "two different keys",
            );
        }
        for (warning, critical) in [
            (&s::HEALTH_PENDING_WARNING, &s::HEALTH_PENDING_CRITICAL),
            (&s::HEALTH_LENGTH_WARNING, &s::HEALTH_LENGTH_CRITICAL),
            (&s::HEALTH_LAG_WARNING, &s::HEALTH_LAG_CRITICAL),
            (&s::HEALTH_IDLE_CONSUMERS_WARNING, &s::HEALTH_IDLE_CONSUMERS_CRITICAL),
            (&s::HEALTH_DEAD_LETTERS_WARNING, &s::HEALTH_DEAD_LETTERS_CRITICAL),
            (&s::HEALTH_BACKLOG_AGE_WARNING, &s::HEALTH_BACKLOG_AGE_CRITICAL),
        ] {
            let counts = values.count_given(warning).zip(values.count_given(critical));
            let ages = values.duration_given(warning).zip(values.duration_given(critical));
            if counts.is_some_and(|(low, high)| low > high) || ages.is_some_and(|(low, high)| low > high) {
                values.contradict(
                    &[warning, critical],
                    "it would be critical before it warns",
                    "the warning first",
                );
            }
        }
    }

    fn validate_wal(&self, values: &mut LayeredValues) {
        let levels = self.health.capture_wal;
        if levels.warning > levels.critical {
            values.contradict(
                &[&s::HEALTH_CAPTURE_WAL_WARNING, &s::HEALTH_CAPTURE_WAL_CRITICAL],
                "it would be critical before it warns",
                "the warning first",
            );
        }
    }

    fn validate_times(&self, values: &mut LayeredValues) {
        if self.appender.deadline > ANSWER_WITHIN {
            values.contradict(
                &[&s::APPEND_DEADLINE],
                "an answer within 3s is promised to Shopify, which gives up after 5s",
                "at most 3s",
            );
        }
        if self.spool_limit.is_some() && self.appender.spool_after >= self.appender.deadline {
            values.contradict(
                &[&s::SPOOL_AFTER, &s::APPEND_DEADLINE],
                "an append would be answered before it goes to the spool",
                "SPOOL_AFTER below APPEND_DEADLINE",
            );
        }
        if self
            .redis
            .as_ref()
            .is_some_and(|redis| redis.response_timeout > self.appender.deadline)
        {
            values.contradict(
                &[&s::REDIS_RESPONSE_TIMEOUT, &s::APPEND_DEADLINE],
                "an append would be answered before its failure is known",
                "REDIS_RESPONSE_TIMEOUT of at most APPEND_DEADLINE",
            );
        }
        if statement_timeout(values) >= self.worker.claim_idle {
            values.contradict(
                &[&s::STATEMENT_TIMEOUT, &s::CLAIM_IDLE],
                "another worker would claim entries while a statement still holds their locks",
                "STATEMENT_TIMEOUT below CLAIM_IDLE",
            );
        }
        if self.worker.consumer_ttl <= self.worker.claim_idle {
            values.contradict(
                &[&s::CONSUMER_TTL, &s::CLAIM_IDLE],
                "consumers would be removed before their entries can be claimed",
                "CONSUMER_TTL above CLAIM_IDLE",
            );
        }
        if self.shutdown.drain_delay >= self.shutdown.grace {
            values.contradict(
                &[&s::DRAIN_DELAY, &s::SHUTDOWN_GRACE],
                "nothing of the grace period is left for draining",
                "DRAIN_DELAY below SHUTDOWN_GRACE",
            );
        }
    }

    fn validate_pools(&self, values: &mut LayeredValues) {
        if self
            .redis
            .as_ref()
            .is_some_and(|redis| redis.pool_size <= self.appender.writers)
        {
            values.contradict(
                &[&s::REDIS_POOL_SIZE, &s::WRITERS],
                "each writer holds a connection, and none is left for anything else",
                "REDIS_POOL_SIZE above WRITERS",
            );
        }
        if self
            .database
            .as_ref()
            .is_some_and(|database| database.pool_size < self.worker.workers)
        {
            values.contradict(
                &[&s::DATABASE_POOL_SIZE, &s::WORKERS],
                "workers would wait for each other's connection",
                "DATABASE_POOL_SIZE of at least WORKERS",
            );
        }
    }

    /// Fails closed: whatever is reachable from outside has its secrets and tokens.
    fn validate_exposure(&self, values: &mut LayeredValues) {
        let admin_is_exposed = self.admin.addr.is_some_and(is_exposed);
        let public_is_exposed = self.purpose.ingests() && is_exposed(self.public.addr);
        if !self.purpose.ingests() && !self.purpose.works() {
            return;
        }
        let why = "an address off loopback is open to others";
        if public_is_exposed && self.auth.shopify_secrets.is_empty() && self.auth.shop_secrets.is_none() {
            values.contradict(
                &[&s::SHOPIFY_SECRETS, &s::SHOP_SECRETS_FILE],
                format!(
                    "{why} ({}), and there is no secret to verify webhooks with",
                    self.public.addr
                ),
                "one of the two, or a loopback ORDERSTREAM_LISTEN_ADDR",
            );
        }
        if public_is_exposed && self.auth.api_tokens.is_empty() {
            values.contradict(
                &[&s::API_TOKENS],
                format!("{why} ({}), and there is no token for /events/batch", self.public.addr),
                "at least one token, or a loopback ORDERSTREAM_LISTEN_ADDR",
            );
        }
        if let Some(addr) = self
            .admin
            .addr
            .filter(|_| admin_is_exposed && self.admin.token.is_none())
        {
            values.contradict(
                &[&s::ADMIN_TOKEN],
                format!("{why} ({addr}), and there is no token for the admin API"),
                "a token, or a loopback ORDERSTREAM_ADMIN_ADDR",
            );
        }
        if let Some(admin) = self
            .admin
            .addr
            .filter(|admin| self.purpose.ingests() && collide(*admin, self.public.addr))
        {
            values.contradict(
                &[&s::LISTEN_ADDR, &s::ADMIN_ADDR],
                format!("public and private listener would share port {}", admin.port()),
                "two different ports",
            );
        }
    }

    /// What should be looked at and does not keep it from starting.
    pub(super) fn collect_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.purpose.ingests() {
            return warnings;
        }
        if self.purpose == Purpose::Run && self.first_exposed_address().is_some() {
            let stream = self.redis.is_none().then_some((&s::REDIS_URL, "stream"));
            let warehouse = self.database.is_none().then_some((&s::DATABASE_URL, "warehouse"));
            let folder = self.data_dir.display();
            warnings.extend([stream, warehouse].into_iter().flatten().map(|(setting, what)| {
                let name = setting.name;
                format!(
                    "{name} is not set: the {what} is kept in {folder}, which must outlive this process and its \
                     container"
                )
            }));
        }
        let auth = &self.auth;
        if auth.shop_secrets.is_some() && !auth.shopify_secrets.is_empty() {
            warnings.push(format!(
                "{} is not used: {} is set, and its shops with their secrets are the only ones accepted",
                s::SHOPIFY_SECRETS.name,
                s::SHOP_SECRETS_FILE.name
            ));
        }
        if auth.shop_secrets.is_none() && auth.shopify_secrets.is_empty() && !self.auth_is_unset() {
            warnings.push(format!(
                "{} is not set: every webhook will be refused with 401",
                s::SHOPIFY_SECRETS.name
            ));
        }
        warnings
    }
}

/// What holds for STATEMENT_TIMEOUT.
pub(super) fn statement_timeout(values: &LayeredValues) -> Duration {
    let half = values.duration(&s::CLAIM_IDLE) / 2;
    values
        .duration_given(&s::STATEMENT_TIMEOUT)
        .unwrap_or_else(|| half.min(Duration::from_secs(30)))
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
