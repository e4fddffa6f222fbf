//! The nodes in `status`: the processes on the stream, as they report themselves.

use std::time::Duration;

use super::output::{span, table};
use crate::nodes::{Node, WarehouseState};

/// Shown for a value that is not known.
pub(super) const UNKNOWN: &str = "–";

const HEADING: [&str; 9] = [
    "node",
    "role",
    "version",
    "heartbeat",
    "accepted/s",
    "loaded/s",
    "p99",
    "spooled",
    "warehouse",
];

/// A table of all nodes, or one line.
pub(super) fn lines(nodes: Option<&[Node]>) -> Vec<String> {
    match nodes {
        None => vec![format!("nodes                {UNKNOWN}")],
        Some([]) => vec!["nodes                none".to_owned()],
        Some(nodes) => table(HEADING, nodes.iter().map(row)),
    }
}

fn row(node: &Node) -> [String; 9] {
    let record = &node.record;
    let age = span(node.heartbeat_age);
    // The last figures of a process that is gone would be mistaken for current ones.
    let is_live = !node.is_stale();
    let intake = record.intake.as_ref().filter(|_| is_live);
    let loading = record.loading.as_ref().filter(|_| is_live);
    let rate = |rate: Option<f64>| known(rate.map(|rate| format!("{rate:.1}")));
    let latency = loading.and_then(|loading| loading.latency.as_ref()?.p99_ms);
    let spooled = intake.and_then(|intake| intake.spool.as_ref()?.depth);
    [
        record.id.clone(),
        record.role.name().to_owned(),
        record.version.clone(),
        format!("{}{age} ago", if is_live { "" } else { "stale, " }),
        rate(intake.and_then(|intake| intake.accepted_per_second)),
        rate(loading.and_then(|loading| loading.loaded_per_second)),
        known(latency.map(|millis| span(Duration::from_secs_f64(millis / 1000.0)))),
        known(spooled.map(|depth| depth.to_string())),
        known(loading.and_then(|loading| loading.warehouse.as_ref()).map(warehouse)),
    ]
}

fn warehouse(state: &WarehouseState) -> String {
    match state {
        WarehouseState::Reached { .. } => "reached".to_owned(),
        WarehouseState::Away { since, why, .. } => {
            let lasts = time::OffsetDateTime::now_utc() - *since;
            format!("away for {}: {why}", span(lasts.unsigned_abs()))
        }
    }
}

fn known(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::{Intake, Loading, NodeRecord, Role};

    #[test]
    fn what_a_node_does_not_tell_is_a_dash() {
        let node = |id: &str, role, age| Node {
            record: NodeRecord {
                id: id.to_owned(),
                role,
                version: "0.1.0".to_owned(),
                intake: (role == Role::Serve).then(|| Intake {
                    accepted_per_second: Some(2.0),
                    ..Intake::default()
                }),
                loading: (role == Role::Work).then(|| Loading {
                    loaded_per_second: Some(12.34),
                    ..Loading::default()
                }),
                ..NodeRecord::default()
            },
            heartbeat_age: Duration::from_secs(age),
        };
        let nodes = [
            node("a", Role::Serve, 1),
            node("b", Role::Work, 2),
            node("c", Role::Work, 90),
        ];
        let lines_of = |nodes| lines(nodes).join("\n");
        let text = lines_of(Some(&nodes));
        let rows = Vec::from_iter(
            text.lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")),
        );
        assert_eq!(
            rows[1..],
            [
                "a serve 0.1.0 1.0s ago 2.0 – – – –",
                "b work 0.1.0 2.0s ago – 12.3 – – –",
                "c work 0.1.0 stale, 1m 30s ago – – – – –",
            ]
        );
        assert_eq!(lines_of(None), "nodes                –");
        assert_eq!(lines_of(Some(&[])), "nodes                none");
    }
}
