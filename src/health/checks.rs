//! The checks of a report: figure → status and sentence. Pure.

use std::time::Duration;

use time::OffsetDateTime;

use super::levels::{counted, filled};
use super::observation::{Observation, Thresholds, age_of_newest};
use super::partitions::PartitionHealth;
use super::report::{Check, HealthReport, Status, seconds, worst};
use super::{dead_letters, workers};
use crate::config::Levels;
use crate::stream::{ConsumerReport, StreamId, StreamReport};

/// Requests of a minute of which the share of refused ones says something.
const LEAST_REQUESTS: f64 = 20.0;

/// Every check that a report may have.
pub(super) const NAMES: [&str; 28] = [
    "figures",
    "stream",
    "workers",
    "backlog_age",
    "pending",
    "stream_length",
    "dead_letters",
    "lag",
    "idle_consumers",
    "accepted",
    "unauthorized",
    "eviction_policy",
    "trimming",
    "group",
    "stream_ids",
    "warehouse",
    "warehouse_loss",
    "privacy_requests",
    "subscriptions",
    "reconcile",
    "api_version",
    "losses",
    "spool",
    "other_spools",
    "capture",
    "capture_wal",
    "capture_query",
    "partitions",
];

impl HealthReport {
    /// Judges what was found.
    #[must_use]
    pub fn judge(observation: &Observation, thresholds: &Thresholds) -> Self {
        let stream = &observation.stream;
        let ours = stream.groups.iter().find(|group| group.ours);
        let mut report = Self {
            stream_length: Some(stream.length),
            pending_count: ours.map(|group| group.pending),
            lag: ours.and_then(|group| group.lag),
            consumers: Some(stream.consumers.len() as u64),
            idle_consumers: Some(idle_consumers(stream, thresholds.claim_idle)),
            last_delivered_id: ours.map(|group| group.last_delivered.to_string()),
            oldest_backlog_seconds: stream.oldest_backlog.map(seconds),
            oldest_pending_seconds: stream.oldest_pending.map(seconds),
            last_accepted_seconds: observation.since_accepted.map(seconds),
            seconds_until_full: seconds_until_full(observation, thresholds),
            trim_held_by: trim_held_by(stream, thresholds.retain_acked),
            dead_letters: Some(stream.dead_letters),
            dead_letters_new: dead_letters::new_letters(observation),
            oldest_dead_letter_seconds: stream.oldest_dead_letter.map(seconds),
            workers: workers::live(observation),
            paused_since: observation.paused_since.clone(),
            spool_drained_per_second: observation.drain_rate,
            partitions: partitions(observation),
            ..Self::default()
        };
        report.checks = all(&report, observation, thresholds);
        report.status = worst(&report.checks);
        report
    }

    /// What is known without the stream: whether the warehouse is reached, by a process that loads
    /// into one.
    pub(super) fn of_warehouse(observation: &Observation, thresholds: &Thresholds) -> Self {
        let limit = thresholds.levels.warehouse_critical;
        let judged = |_| workers::warehouse(observation, limit, OffsetDateTime::now_utc());
        let checks = Vec::from_iter(observation.warehouse.as_ref().map(judged));
        Self {
            status: worst(&checks),
            checks,
            ..Self::default()
        }
    }
}

fn partitions(seen: &Observation) -> Vec<PartitionHealth> {
    seen.stream.partitions.iter().map(PartitionHealth::of).collect()
}

/// What is wrong with the stream's newest id, for `check` and the start to say.
#[must_use]
pub fn ids_warning(report: &StreamReport) -> Option<String> {
    let (_, ids_ahead) = age_of_newest(report);
    ids_problem(report.last_id, ids_ahead).map(|(_, problem)| format!("stream ids: {problem}"))
}

fn all(report: &HealthReport, seen: &Observation, thresholds: &Thresholds) -> Vec<Check> {
    let levels = &thresholds.levels;
    let mut checks = vec![
        workers::workers(report, seen),
        workers::backlog_age(seen, levels.backlog_age),
        pending(report, thresholds),
        filled(
            "stream_length",
            (seen.stream.length, seen.stream.maxlen),
            levels.length_percent,
        ),
        dead_letters::check(report, seen, thresholds),
        counted("lag", report.lag, levels.lag, "entries are not yet read"),
        counted(
            "idle_consumers",
            report.idle_consumers,
            levels.idle_consumers,
            "consumers hold entries and are silent",
        ),
        accepted(seen, thresholds),
        unauthorized(seen, levels.unauthorized_percent),
        eviction(seen),
        trimming(report),
        group(seen),
        ids(seen),
    ];
    let now = OffsetDateTime::now_utc();
    checks.push(workers::warehouse(seen, levels.warehouse_critical, now));
    checks.extend(workers::other_spools(seen));
    checks.extend(warehouse_loss(seen));
    checks.extend(privacy_requests(seen));
    checks.extend(subscriptions(seen));
    checks.extend(reconcile(seen));
    checks
}

fn pending(report: &HealthReport, thresholds: &Thresholds) -> Check {
    let consumers = report.consumers.unwrap_or(0);
    let usual = consumers
        .saturating_mul(thresholds.read_count)
        .saturating_mul(2)
        .max(100);
    let levels = Levels {
        warning: thresholds.levels.pending_warning.unwrap_or(usual + 1),
        critical: thresholds.levels.pending_critical.unwrap_or(usual.saturating_mul(10)),
    };
    counted(
        "pending",
        report.pending_count,
        levels,
        "entries are read and not acked",
    )
}

fn accepted(seen: &Observation, thresholds: &Thresholds) -> Check {
    let is_silence = |time: Duration| thresholds.levels.silence.is_some_and(|limit| time >= limit);
    let (status, detail) = match seen.since_accepted.map(|age| (age, age.as_secs())) {
        Some((age, seconds)) if is_silence(age) => {
            let detail = format!("nothing accepted for {seconds} s: check that the webhook subscription still exists");
            (Status::Warning, detail)
        }
        Some((_, seconds)) => (Status::Healthy, format!("last accepted {seconds} s ago")),
        None if is_silence(seen.watched) => {
            let seconds = seen.watched.as_secs();
            (
                Status::Warning,
                format!("nothing accepted since the start {seconds} s ago"),
            )
        }
        None => (Status::Healthy, "nothing accepted yet".to_owned()),
    };
    Check::new("accepted", status, detail)
}

/// Of this process, or of the nodes that take webhooks where this one takes none.
fn unauthorized(seen: &Observation, limit_percent: u64) -> Check {
    const NAME: &str = "unauthorized";
    let Some(share) = seen.unauthorized.or_else(|| unauthorized_elsewhere(seen)) else {
        if seen.watched.is_zero() && seen.nodes.is_none() {
            return Check::unknown(NAME, "not known: no process reports it");
        }
        return Check::new(NAME, Status::Healthy, "too few requests in the last minute");
    };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share between 0 and 1"
    )]
    let percent = (share * 100.0) as u64;
    let status = if percent >= limit_percent {
        Status::Warning
    } else {
        Status::Healthy
    };
    Check::new(
        NAME,
        status,
        format!("{percent} % of requests in the last minute were answered 401"),
    )
}

/// Share of requests answered 401 in the last minute, on all other nodes; `None` where they were
/// too few to tell.
fn unauthorized_elsewhere(seen: &Observation) -> Option<f64> {
    let live = seen.nodes.iter().flatten().filter(|node| !node.is_stale());
    let intakes = live.filter_map(|node| node.record.intake.as_ref());
    let (mut refused, mut taken) = (0.0, 0.0);
    for intake in intakes {
        refused += intake.unauthorized_per_minute.map_or(0.0, |count| count as f64);
        taken += intake.accepted_per_second.unwrap_or_default() * 60.0;
    }
    let all: f64 = refused + taken;
    (all >= LEAST_REQUESTS).then(|| refused / all)
}

fn eviction(seen: &Observation) -> Check {
    const NAME: &str = "eviction_policy";
    match seen.eviction_policy.as_deref() {
        Some("noeviction") => Check::new(NAME, Status::Healthy, "noeviction"),
        Some(policy) => {
            let detail =
                format!("{policy}: the store may drop entries and dedupe keys; set maxmemory-policy noeviction");
            Check::new(NAME, Status::Critical, detail)
        }
        None => Check::unknown(NAME, "not known: the server does not report it"),
    }
}

fn trimming(report: &HealthReport) -> Check {
    let (status, detail) = match &report.trim_held_by {
        Some(group) => (
            Status::Warning,
            format!("held by group {group}, which has not acked enough"),
        ),
        None => (Status::Healthy, "not held".to_owned()),
    };
    Check::new("trimming", status, detail)
}

fn group(seen: &Observation) -> Check {
    let (status, detail) = match seen.stream.groups.iter().any(|group| group.ours) {
        true => (Status::Healthy, "exists"),
        false => (
            Status::Warning,
            "the consumer group does not exist: no worker has run yet",
        ),
    };
    Check::new("group", status, detail)
}

fn ids(seen: &Observation) -> Check {
    let healthy = || (Status::Healthy, "not ahead of the clock".to_owned());
    let (status, detail) = ids_problem(seen.stream.last_id, seen.ids_ahead).unwrap_or_else(healthy);
    Check::new("stream_ids", status, detail)
}

/// The store gives an entry an id after the newest one, whoever chose that.
fn ids_problem(newest: Option<StreamId>, ahead: Option<Duration>) -> Option<(Status, String)> {
    if newest == Some(StreamId::MAX) {
        let detail = "an entry had the greatest possible id, so that the stream takes none ever again; set another \
                      ORDERSTREAM_STREAM, and run a second `orderstream work` on this one until it is empty";
        return Some((Status::Critical, detail.to_owned()));
    }
    let seconds = ahead?.as_secs();
    let detail = format!(
        "the newest id is {seconds} s ahead of the clock, and ids of new entries follow it: a producer chose it, or a \
         clock was wrong; until then no age of an entry is known"
    );
    Some((Status::Warning, detail))
}

/// Rows that are gone from the warehouse, as a live worker found it; there while something is
/// missing.
fn warehouse_loss(seen: &Observation) -> Option<Check> {
    let nodes = seen.nodes.iter().flatten().filter(|node| !node.is_stale());
    let lost = nodes
        .filter_map(|node| node.record.loading.as_ref()?.warehouse_loss.clone())
        .next()?;
    Some(Check::new("warehouse_loss", Status::Critical, lost))
}

/// Requests to erase a person or a shop, as a live worker found them; there while one waits.
fn privacy_requests(seen: &Observation) -> Option<Check> {
    let nodes = seen.nodes.iter().flatten().filter(|node| !node.is_stale());
    let waiting = nodes
        .filter_map(|node| node.record.loading.as_ref()?.privacy_requests.clone())
        .next()?;
    Some(Check::new("privacy_requests", Status::Warning, waiting))
}

/// Webhook subscriptions that are not as they should be, as a live worker found them.
fn subscriptions(seen: &Observation) -> Option<Check> {
    let nodes = seen.nodes.iter().flatten().filter(|node| !node.is_stale());
    let wrong = nodes
        .filter_map(|node| node.record.loading.as_ref()?.subscriptions.clone())
        .next()?;
    Some(Check::new("subscriptions", Status::Warning, wrong))
}

/// Orders that are not as the shop has them, as a live worker found them.
fn reconcile(seen: &Observation) -> Option<Check> {
    let nodes = seen.nodes.iter().flatten().filter(|node| !node.is_stale());
    let wrong = nodes
        .filter_map(|node| node.record.loading.as_ref()?.reconcile.clone())
        .next()?;
    Some(Check::new("reconcile", Status::Warning, wrong))
}

/// Before Redis 7.2 a quiet consumer's idle time grows too: only one that holds entries is idle.
fn idle_consumers(stream: &StreamReport, claim_idle: Duration) -> u64 {
    let idle = |consumer: &&ConsumerReport| consumer.pending > 0 && consumer.idle > claim_idle;
    stream.consumers.iter().filter(idle).count() as u64
}

/// The group that is furthest behind, where what it has not acked is more than is kept on purpose.
fn trim_held_by(stream: &StreamReport, retain_acked: u64) -> Option<String> {
    stream
        .groups
        .iter()
        .filter(|group| group.pending.saturating_add(group.lag.unwrap_or(stream.length)) > retain_acked)
        .min_by_key(|group| group.needs_from)
        .map(|group| group.name.clone())
}

/// Below `retain_acked` growth ends by itself: the trimmer has not begun yet.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate; a float cast saturates"
)]
fn seconds_until_full(observation: &Observation, thresholds: &Thresholds) -> Option<u64> {
    let stream = &observation.stream;
    let growth = observation.growth.filter(|growth| *growth > 0.0)?;
    if stream.length <= thresholds.retain_acked {
        return None;
    }
    let room = stream.maxlen.saturating_sub(stream.length);
    Some((room as f64 / growth) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Ages, DeadLetterLevels, HealthConfig};
    use crate::health::NewDeadLetters;
    use crate::stream::{ConsumerReport, GroupReport, StreamReport};

    fn thresholds() -> Thresholds {
        Thresholds {
            levels: HealthConfig {
                after: Duration::from_secs(30),
                pending_warning: None,
                pending_critical: None,
                length_percent: Levels {
                    warning: 50,
                    critical: 90,
                },
                lag: Levels {
                    warning: 500,
                    critical: 5000,
                },
                idle_consumers: Levels {
                    warning: 1,
                    critical: 1,
                },
                backlog_age: Ages {
                    warning: Duration::from_secs(60),
                    critical: Duration::from_secs(600),
                },
                warehouse_critical: Duration::from_secs(120),
                dead_letters: DeadLetterLevels {
                    window: Duration::from_secs(900),
                    new: Levels {
                        warning: 1,
                        critical: 100,
                    },
                    share_percent: 1,
                    unresolved: Some(Duration::from_secs(24 * 3600)),
                },
                silence: Some(Duration::from_secs(3600)),
                capture_wal: Levels {
                    warning: 1 << 30,
                    critical: 10 << 30,
                },
                unauthorized_percent: 50,
            },
            read_count: 500,
            claim_idle: Duration::from_secs(60),
            retain_acked: 10_000,
        }
    }

    /// A stream of `length` with our group at `pending` and `lag`, and `idle` of two consumers
    /// idle.
    fn observation(length: u64, pending: u64, lag: Option<u64>, idle: usize) -> Observation {
        let consumer = |n: usize| ConsumerReport {
            name: format!("c{n}"),
            pending: 1,
            idle: Duration::from_secs(if n < idle { 61 } else { 60 }),
        };
        Observation {
            stream: StreamReport {
                length,
                maxlen: 100_000,
                dead_letters_maxlen: 10_000,
                groups: vec![GroupReport {
                    name: "g".to_owned(),
                    ours: true,
                    pending,
                    lag,
                    last_delivered: StreamId::new(5, 0),
                    needs_from: StreamId::new(5, 0),
                }],
                consumers: (0..2).map(consumer).collect(),
                ..StreamReport::default()
            },
            eviction_policy: Some("noeviction".to_owned()),
            ..Observation::default()
        }
    }

    fn status_of(name: &str, seen: &Observation) -> Status {
        let report = HealthReport::judge(seen, &thresholds());
        report.checks.iter().find(|check| check.name == name).unwrap().status
    }

    #[test]
    fn levels_are_those_of_the_table() {
        use Status::{Critical, Healthy, Warning};
        // Two consumers at a read count of 500: pending is usual up to 2000.
        for (pending, expected) in [
            (0, Healthy),
            (2000, Healthy),
            (2001, Warning),
            (20_000, Warning),
            (20_001, Critical),
        ] {
            assert_eq!(
                status_of("pending", &observation(0, pending, None, 0)),
                expected,
                "{pending}"
            );
        }
        for (length, expected) in [
            (49_999, Healthy),
            (50_000, Warning),
            (90_000, Warning),
            (90_100, Critical),
        ] {
            assert_eq!(
                status_of("stream_length", &observation(length, 0, None, 0)),
                expected,
                "{length}"
            );
        }
        for (letters, expected) in [(4_999, Healthy), (5_000, Warning), (9_010, Critical)] {
            let mut seen = observation(0, 0, None, 0);
            seen.stream.dead_letters = letters;
            seen.new_dead_letters = Some(NewDeadLetters { count: 0, share: None });
            assert_eq!(status_of("dead_letters", &seen), expected, "{letters}");
        }
        for (lag, expected) in [(499, Healthy), (500, Warning), (5000, Warning), (5001, Critical)] {
            assert_eq!(status_of("lag", &observation(0, 0, Some(lag), 0)), expected, "{lag}");
        }
        assert_eq!(status_of("lag", &observation(0, 0, None, 0)), Warning, "not known");
        for (idle, expected) in [(0, Healthy), (1, Warning), (2, Critical)] {
            assert_eq!(
                status_of("idle_consumers", &observation(0, 0, None, idle)),
                expected,
                "{idle}"
            );
        }
    }

    #[test]
    fn overall_is_the_worst() {
        let mut seen = observation(60_000, 0, Some(6000), 0);
        assert_eq!(HealthReport::judge(&seen, &thresholds()).status, Status::Critical);
        seen.stream.groups[0].lag = Some(0);
        assert_eq!(HealthReport::judge(&seen, &thresholds()).status, Status::Warning);
        seen.eviction_policy = Some("allkeys-lru".to_owned());
        assert_eq!(HealthReport::judge(&seen, &thresholds()).status, Status::Critical);
    }

    #[test]
    fn silence_and_refusals_warn() {
        let mut seen = observation(0, 0, Some(0), 0);
        seen.since_accepted = Some(Duration::from_secs(3599));
        assert_eq!(status_of("accepted", &seen), Status::Healthy);
        seen.since_accepted = Some(Duration::from_secs(3600));
        assert_eq!(status_of("accepted", &seen), Status::Warning);
        seen.since_accepted = None;
        seen.watched = Duration::from_secs(3599);
        assert_eq!(status_of("accepted", &seen), Status::Healthy);
        seen.watched = Duration::from_secs(3600);
        assert_eq!(status_of("accepted", &seen), Status::Warning);
        seen.unauthorized = Some(0.49);
        assert_eq!(status_of("unauthorized", &seen), Status::Healthy);
        seen.unauthorized = Some(0.5);
        assert_eq!(status_of("unauthorized", &seen), Status::Warning);
    }

    #[test]
    fn a_dead_letter_that_is_new_or_old_or_one_of_too_many_is_seen() {
        use Status::{Critical, Healthy, Warning};
        let day = 24 * 3600;
        for (letters, new, oldest, expected) in [
            (0, Some(0), None, Healthy),
            (0, Some(500), None, Healthy),
            (5, Some(0), Some(day - 1), Healthy),
            (5, Some(0), Some(day), Warning),
            (5, Some(1), Some(1), Warning),
            (5, Some(500), Some(1), Warning),
            (3020, Some(3020), Some(1), Critical),
            (5, None, Some(1), Warning),
            (9_010, None, Some(1), Critical),
        ] {
            let mut seen = observation(0, 0, Some(0), 0);
            seen.stream.dead_letters = letters;
            seen.stream.oldest_dead_letter = oldest.map(Duration::from_secs);
            seen.new_dead_letters = new.map(|count| NewDeadLetters { count, share: None });
            let report = HealthReport::judge(&seen, &thresholds());
            let found = report.checks.iter().find(|check| check.name == "dead_letters").unwrap();
            assert_eq!(found.status, expected, "{letters} {new:?} {oldest:?}: {}", found.detail);
            assert_eq!(found.known, new.is_some(), "{}", found.detail);
        }
    }

    #[test]
    fn what_is_not_known_is_not_healthy_and_every_check_has_its_gauge() {
        let seen = Observation {
            stream: StreamReport {
                length: 1,
                ..StreamReport::default()
            },
            ..Observation::default()
        };
        let report = HealthReport::judge(&seen, &thresholds());
        let unknown: Vec<_> = report.checks.iter().filter(|check| !check.known).collect();
        assert!(
            unknown.iter().all(|check| check.status >= Status::Warning),
            "{unknown:?}"
        );
        let mut names: Vec<_> = unknown.iter().map(|check| check.name.as_ref()).collect();
        names.sort_unstable();
        let expected = [
            "backlog_age",
            "eviction_policy",
            "lag",
            "pending",
            "unauthorized",
            "warehouse",
            "workers",
        ];
        assert_eq!(names, expected);
        assert!(report.checks.iter().all(|check| NAMES.contains(&check.name.as_ref())));
    }

    #[test]
    fn names_the_group_that_holds_trimming() {
        let mut seen = observation(30_000, 0, Some(0), 0);
        assert_eq!(HealthReport::judge(&seen, &thresholds()).trim_held_by, None);
        seen.stream.groups.push(GroupReport {
            name: "slow".to_owned(),
            ours: false,
            pending: 5,
            lag: Some(29_000),
            last_delivered: StreamId::new(1, 0),
            needs_from: StreamId::new(1, 0),
        });
        let report = HealthReport::judge(&seen, &thresholds());
        assert_eq!(report.trim_held_by.as_deref(), Some("slow"));
        assert_eq!(status_of("trimming", &seen), Status::Warning);
    }

    #[test]
    fn tells_when_it_will_be_full() {
        let full = |length, growth| {
            let mut seen = observation(length, 0, Some(0), 0);
            seen.growth = growth;
            HealthReport::judge(&seen, &thresholds()).seconds_until_full
        };
        assert_eq!(full(50_000, Some(100.0)), Some(500));
        assert_eq!(full(50_000, Some(-1.0)), None);
        assert_eq!(full(50_000, None), None);
        assert_eq!(
            full(9_000, Some(100.0)),
            None,
            "growth up to what is kept on purpose is no danger"
        );
    }

    #[test]
    fn ids_that_are_used_up_or_ahead_of_the_clock_are_told() {
        let mut seen = observation(10, 0, Some(0), 0);
        assert_eq!(status_of("stream_ids", &seen), Status::Healthy);
        seen.ids_ahead = Some(Duration::from_secs(86_400));
        assert_eq!(status_of("stream_ids", &seen), Status::Warning);
        seen.stream.last_id = Some(StreamId::MAX);
        assert_eq!(status_of("stream_ids", &seen), Status::Critical);
    }
}
