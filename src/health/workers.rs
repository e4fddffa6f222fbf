//! The checks on loading: age of the backlog, live workers, the warehouse as they report it, and
//! the spools of other nodes. Pure.

use std::time::Duration;

use time::OffsetDateTime;

use super::levels;
use super::observation::Observation;
use super::report::{Check, HealthReport, Status};
use crate::config::Ages;
use crate::nodes::{Node, WarehouseState};
use crate::stream::GroupReport;

/// Detail of a check that needs the nodes, where they are not known.
const NO_NODES: &str = "not known: the stream does not list its nodes";

const WAREHOUSE: &str = "warehouse";
/// Most nodes that a sentence names.
const NAMED: usize = 3;

/// Number of workers with a recent heartbeat.
pub(super) fn live(seen: &Observation) -> Option<u64> {
    let nodes = seen.nodes.as_ref()?;
    Some(nodes.iter().filter(|node| node.is_live_worker()).count() as u64)
}

/// Age of the oldest entry that is unread or pending.
pub(super) fn backlog_age(seen: &Observation, limits: Ages) -> Check {
    const NAME: &str = "backlog_age";
    let length = seen.stream.length;
    if length > 0 && !seen.stream.groups.iter().any(|group| group.ours) {
        let why = format!("not known: the consumer group does not exist, and the stream holds {length} entries");
        return Check::unknown(NAME, why);
    }
    let Some(age) = seen.stream.oldest_backlog else {
        let waits = |group: &&GroupReport| group.ours && (group.pending > 0 || group.lag != Some(0));
        return match seen.stream.groups.iter().find(waits) {
            Some(_) => Check::unknown(NAME, "not known: the ids of the backlog are ahead of the clock"),
            None => Check::new(NAME, Status::Healthy, "no backlog"),
        };
    };
    let (status, since) = if age >= limits.critical {
        (Status::Critical, limits.critical)
    } else if age >= limits.warning {
        (Status::Warning, limits.warning)
    } else {
        (Status::Healthy, age)
    };
    let detail = format!("the oldest unread or pending entry is {} old", levels::span(age));
    Check::new(NAME, status, detail).lasting(age.saturating_sub(since))
}

/// Whether a live worker loads the backlog, and the group is not paused. A worker without a recent heartbeat is not live, and
/// the state has lasted since that heartbeat.
pub(super) fn workers(report: &HealthReport, seen: &Observation) -> Check {
    const NAME: &str = "workers";
    if let Some(since) = &seen.paused_since {
        let (_, what) = waiting(report, seen);
        let detail = format!("paused by an operator since {since}, and {what}: `orderstream resume` ends it");
        // It is no state that comes and goes.
        return Check::new(NAME, Status::Warning, detail).lasting(Duration::MAX);
    }
    let Some(nodes) = &seen.nodes else {
        return Check::unknown(NAME, NO_NODES);
    };
    let stale: Vec<_> = nodes
        .iter()
        .filter(|node| node.record.role.works() && node.is_stale())
        .collect();
    let silent = stale.iter().map(|node| node.heartbeat_age).min();
    let gone = silent.map_or_else(String::new, |age| {
        format!("; no heartbeat for {}: {}", levels::span(age), names(&stale))
    });
    match live(seen).unwrap_or_default() {
        0 => {
            let (status, what) = waiting(report, seen);
            let detail = format!("no live worker, and {what}{gone}");
            Check::new(NAME, status, detail).lasting(silent.unwrap_or_default())
        }
        1 => Check::new(NAME, Status::Healthy, format!("1 live worker{gone}")),
        live => Check::new(NAME, Status::Healthy, format!("{live} live workers{gone}")),
    }
}

/// Ids of the first few.
fn names(nodes: &[&Node]) -> String {
    let named = nodes.iter().take(NAMED).map(|node| node.record.id.as_str());
    let mut names = named.collect::<Vec<_>>().join(", ");
    if nodes.len() > NAMED {
        names += &format!(" and {} more", nodes.len() - NAMED);
    }
    names
}

/// Status without a live worker, and the size of the backlog.
fn waiting(report: &HealthReport, seen: &Observation) -> (Status, String) {
    let without_group = || (report.pending_count.is_none()).then_some(seen.stream.length);
    let both = report.lag.zip(report.pending_count);
    match both
        .map(|(lag, pending)| lag.saturating_add(pending))
        .or_else(without_group)
    {
        Some(0) => (Status::Warning, "no backlog".to_owned()),
        Some(1) => (Status::Critical, "1 entry waits".to_owned()),
        Some(backlog) => (Status::Critical, format!("{backlog} entries wait")),
        None => (Status::Critical, "an unknown number of entries waits".to_owned()),
    }
}

/// Whether the warehouse answers the live workers; where none of them reports it, whether it
/// answers this process.
pub(super) fn warehouse(seen: &Observation, limit: Duration, now: OffsetDateTime) -> Check {
    let nodes = seen.nodes.iter().flatten().filter(|node| node.is_live_worker());
    let mut states: Vec<_> = nodes.filter_map(state).collect();
    // A worker that has only just started says nothing beside others.
    if states.iter().any(|(_, state)| !state.is_untried()) {
        states.retain(|(_, state)| !state.is_untried());
    }
    if states.is_empty() {
        states.extend(seen.warehouse.as_ref().map(|own| ("this process", own)));
    }
    if !states.is_empty() {
        return of_states(&states, limit, now);
    }
    let unreported = "not known: no live worker reports it";
    Check::unknown(WAREHOUSE, seen.nodes.as_ref().map_or(NO_NODES, |_| unreported))
}

fn state(node: &Node) -> Option<(&str, &WarehouseState)> {
    let state = node.record.loading.as_ref()?.warehouse.as_ref()?;
    Some((&node.record.id, state))
}

/// At first a warning: nothing is lost while the warehouse is away, since the stream keeps what
/// comes.
fn of_states(states: &[(&str, &WarehouseState)], limit: Duration, now: OffsetDateTime) -> Check {
    let away: Vec<_> = states
        .iter()
        .filter_map(|(who, state)| match state {
            WarehouseState::Away {
                since,
                why,
                since_start,
            } => Some((who, *since, why, *since_start)),
            WarehouseState::Reached { .. } => None,
        })
        .collect();
    // No worker has reached it since the last of them lost it.
    let Some((who, since, why, _)) = away.iter().max_by_key(|(_, since, ..)| *since) else {
        return Check::new(WAREHOUSE, Status::Healthy, "reachable");
    };
    let lasted = Duration::try_from(now - *since).unwrap_or_default();
    let span = levels::span(lasted);
    if away.len() < states.len() {
        let detail = format!("unreachable from {who} for {span}, and reachable from others: {why}");
        return Check::new(WAREHOUSE, Status::Warning, detail).lasting(lasted);
    }
    let detail = format!("unreachable for {span}: {why}; nothing is loaded, and events stay in the stream");
    match lasted.checked_sub(limit) {
        Some(critical) => Check::new(WAREHOUSE, Status::Critical, detail).lasting(critical),
        None if away.iter().all(|(.., since_start)| *since_start) => {
            Check::unknown(WAREHOUSE, format!("not reached since the start, {span} ago: {why}"))
        }
        None => Check::new(WAREHOUSE, Status::Warning, detail).lasting(lasted),
    }
}

/// The spools of other nodes, as they last reported them; `None` where no other node has one.
pub(super) fn other_spools(seen: &Observation) -> Option<Check> {
    const NAME: &str = "other_spools";
    let nodes = seen
        .nodes
        .as_ref()?
        .iter()
        .filter(|node| Some(&node.record.id) != seen.own_node.as_ref());
    let mut worst = Status::Healthy;
    let mut found = Vec::new();
    let mut spools = 0_u64;
    for node in nodes {
        let Some(spool) = node.record.intake.as_ref().and_then(|intake| intake.spool.as_ref()) else {
            continue;
        };
        spools += 1;
        let depth = spool.depth.unwrap_or_default();
        let is_open = spool.breaker.as_deref() == Some("open");
        let status = match spool.takes_writes {
            Some(false) if !node.is_stale() => Status::Critical,
            _ if depth > 0 || (is_open && !node.is_stale()) => Status::Warning,
            _ => continue,
        };
        worst = worst.max(status);
        let gone = if node.is_stale() {
            format!(", without a heartbeat for {}", levels::span(node.heartbeat_age))
        } else if status == Status::Critical {
            ", and it takes no more".to_owned()
        } else if is_open {
            ", and new ones go to it".to_owned()
        } else {
            String::new()
        };
        found.push(format!("{} holds {depth} events{gone}", node.record.id));
    }
    let detail = if found.is_empty() {
        "empty".to_owned()
    } else {
        found.join("; ")
    };
    (spools > 0).then(|| Check::new(NAME, worst, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::{Intake, Loading, NodeRecord, Role, SpoolFigures};
    use crate::stream::{StreamId, StreamReport};

    fn node(id: &str, role: Role, heartbeat_age: u64, warehouse: Option<WarehouseState>) -> Node {
        Node {
            record: NodeRecord {
                id: id.to_owned(),
                role,
                loading: role.works().then(|| Loading {
                    warehouse,
                    ..Loading::default()
                }),
                ..NodeRecord::default()
            },
            heartbeat_age: Duration::from_secs(heartbeat_age),
        }
    }

    fn seen(nodes: Option<Vec<Node>>) -> Observation {
        Observation {
            nodes,
            ..Observation::default()
        }
    }

    fn report(lag: Option<u64>, pending: Option<u64>) -> HealthReport {
        HealthReport {
            lag,
            pending_count: pending,
            ..HealthReport::default()
        }
    }

    #[test]
    fn a_backlog_without_a_live_worker_is_critical() {
        use Status::{Critical, Healthy, Warning};
        let serve = || node("s", Role::Serve, 0, None);
        for (lag, pending, worker, expected) in [
            (Some(0), Some(0), Some(15), Healthy),
            (Some(9), Some(9), Some(15), Healthy),
            (Some(0), Some(0), Some(16), Warning),
            (Some(1), Some(0), Some(16), Critical),
            (Some(0), Some(1), None, Critical),
            (None, Some(0), None, Critical),
            (Some(0), Some(0), None, Warning),
            // No group: what the stream holds waits, and that is nothing.
            (None, None, None, Warning),
        ] {
            let worker = worker.map(|age| node("w", Role::Work, age, None));
            let nodes = [serve()].into_iter().chain(worker).collect();
            let found = workers(&report(lag, pending), &seen(Some(nodes)));
            assert_eq!((found.status, found.known), (expected, true), "{}", found.detail);
        }
        let unknown = workers(&report(Some(0), Some(0)), &seen(None));
        assert_eq!((unknown.status, unknown.known), (Warning, false));
    }

    #[test]
    fn the_time_without_a_heartbeat_counts() {
        let nodes = [20, 40].map(|age| node("w", Role::Work, age, None)).to_vec();
        let found = workers(&report(Some(1), Some(0)), &seen(Some(nodes)));
        assert_eq!(found.lasted, Duration::from_secs(20));
        assert_eq!(
            found.detail,
            "no live worker, and 1 entry waits; no heartbeat for 20 s: w, w"
        );
    }

    #[test]
    fn the_warehouse_is_as_live_workers_tell() {
        use Status::{Critical, Healthy, Warning};
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1000);
        let reached = || WarehouseState::Reached {
            since: OffsetDateTime::UNIX_EPOCH,
        };
        let away = |seconds| WarehouseState::Away {
            since: now - Duration::from_secs(seconds),
            why: "refused".to_owned(),
            since_start: false,
        };
        let never = |seconds| WarehouseState::Away {
            since: now - Duration::from_secs(seconds),
            why: "refused".to_owned(),
            since_start: true,
        };
        let limit = Duration::from_secs(120);
        let judged = |states: Vec<(u64, WarehouseState)>, own| {
            let nodes = states
                .into_iter()
                .map(|(age, state)| node("w", Role::Work, age, Some(state)));
            let seen = Observation {
                warehouse: own,
                ..seen(Some(nodes.collect()))
            };
            let found = warehouse(&seen, limit, now);
            (found.status, found.known, found.lasted.as_secs())
        };
        assert_eq!(judged(vec![(0, reached()), (0, reached())], None), (Healthy, true, 0));
        assert_eq!(judged(vec![(0, reached()), (0, away(500))], None), (Warning, true, 500));
        assert_eq!(judged(vec![(0, away(119)), (0, away(500))], None), (Warning, true, 119));
        assert_eq!(judged(vec![(0, away(130)), (0, away(500))], None), (Critical, true, 10));
        assert_eq!(judged(vec![], Some(never(3))), (Warning, false, 0), "at once");
        assert_eq!(judged(vec![(0, never(3)), (0, away(5))], None), (Warning, true, 3));
        assert_eq!(judged(vec![(0, never(130))], None), (Critical, true, 10));
        // One that has only just started says nothing beside others, and alone that nothing is known.
        let untried = WarehouseState::untried;
        assert_eq!(judged(vec![(0, reached()), (0, untried())], None), (Healthy, true, 0));
        assert_eq!(judged(vec![(0, away(5)), (0, untried())], None), (Warning, true, 5));
        let (status, known, _) = judged(vec![(0, untried())], None);
        assert_eq!((status, known), (Warning, false));
        assert_eq!(
            judged(vec![(16, reached()), (0, away(120))], None),
            (Critical, true, 0),
            "one is gone"
        );
        assert_eq!(
            judged(vec![(16, reached())], None),
            (Warning, false, 0),
            "no worker lives"
        );
        assert_eq!(
            judged(vec![], Some(reached())),
            (Healthy, true, 0),
            "this process is not listed yet"
        );
        let unknown = warehouse(&seen(None), limit, now);
        assert_eq!((unknown.status, unknown.known), (Warning, false));
    }

    #[test]
    fn what_waits_for_long_is_seen_and_a_missing_group_is_not_known() {
        use Status::{Critical, Healthy, Warning};
        let levels = Ages {
            warning: Duration::from_secs(60),
            critical: Duration::from_secs(600),
        };
        let with = |oldest: Option<u64>, group: Option<&str>, length| Observation {
            stream: StreamReport {
                length,
                oldest_backlog: oldest.map(Duration::from_secs),
                groups: Vec::from_iter(group.map(|name| GroupReport {
                    name: name.to_owned(),
                    ours: true,
                    pending: 0,
                    lag: Some(0),
                    last_delivered: StreamId::MIN,
                    needs_from: StreamId::MIN,
                })),
                ..StreamReport::default()
            },
            ..Observation::default()
        };
        for (oldest, expected, lasted) in [
            (None, Healthy, 0),
            (Some(59), Healthy, 0),
            (Some(60), Warning, 0),
            (Some(599), Warning, 539),
            (Some(600), Critical, 0),
            (Some(3600), Critical, 3000),
        ] {
            let found = backlog_age(&with(oldest, Some("g"), 5), levels);
            assert_eq!((found.status, found.lasted.as_secs()), (expected, lasted), "{oldest:?}");
            assert!(found.known);
        }
        let mut ahead = with(None, Some("g"), 5);
        ahead.stream.groups[0].lag = None;
        let ahead = backlog_age(&ahead, levels);
        assert_eq!((ahead.status, ahead.known), (Warning, false), "{}", ahead.detail);
        let missing = backlog_age(&with(None, None, 5), levels);
        assert_eq!((missing.status, missing.known), (Warning, false));
        assert_eq!(backlog_age(&with(None, None, 0), levels).status, Healthy);
    }

    #[test]
    fn the_spools_of_other_nodes_are_seen_also_of_those_that_are_gone() {
        use Status::{Critical, Healthy, Warning};
        let spool = |id: &str, age, depth, breaker: &str, takes_writes| {
            let mut node = node(id, Role::Serve, age, None);
            node.record.intake = Some(Intake {
                spool: Some(SpoolFigures {
                    depth: Some(depth),
                    breaker: Some(breaker.to_owned()),
                    takes_writes: Some(takes_writes),
                    ..SpoolFigures::default()
                }),
                ..Intake::default()
            });
            node
        };
        let judged = |other| {
            let seen = Observation {
                own_node: Some("own".to_owned()),
                ..seen(Some(vec![spool("own", 0, 7, "open", false), other]))
            };
            other_spools(&seen).map(|found| found.status)
        };
        assert_eq!(judged(node("other", Role::Serve, 0, None)), None);
        assert_eq!(judged(spool("other", 0, 0, "closed", true)), Some(Healthy));
        assert_eq!(judged(spool("other", 0, 3, "closed", true)), Some(Warning));
        assert_eq!(judged(spool("other", 0, 0, "open", true)), Some(Warning));
        assert_eq!(judged(spool("other", 0, 3, "open", false)), Some(Critical));
        assert_eq!(
            judged(spool("other", 60, 3, "open", false)),
            Some(Warning),
            "events on its disk"
        );
        assert_eq!(
            judged(spool("other", 60, 0, "open", true)),
            Some(Healthy),
            "it may be gone for good"
        );
    }
}
