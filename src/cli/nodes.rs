//! What `status` says of the processes on the stream, as each of them tells it.

use std::time::Duration;

use super::status::span;
use super::table::table;
use crate::nodes::{Node, WarehouseState};

/// Of what is not known.
pub(super) const UNKNOWN: &str = "–";

/// A table of all; a line where there is none to show.
pub(super) fn lines(nodes: Option<&[Node]>) -> Vec<String> {
    match nodes {
        None => vec![format!("nodes                {UNKNOWN}")],
        Some([]) => vec!["nodes                none".to_owned()],
        Some(nodes) => table(
            [
                "node",
                "role",
                "version",
                "heartbeat",
                "accepted/s",
                "loaded/s",
                "p99",
                "spooled",
                "warehouse",
            ],
            &Vec::from_iter(nodes.iter().map(row)),
        ),
    }
}

fn row(node: &Node) -> [String; 9] {
    let record = &node.record;
    let age = span(node.heartbeat_age);
    let heartbeat = if node.is_stale() {
        format!("stale, {age} ago")
    } else {
        format!("{age} ago")
    };
    let row = [
        record.id.clone(),
        record.role.name().to_owned(),
        record.version.clone(),
        heartbeat,
    ];
    // Of a process that is gone, the last figures would pass for those of now.
    let (intake, loading) = if node.is_stale() {
        (None, None)
    } else {
        (record.intake.as_ref(), record.loading.as_ref())
    };
    let rate = |rate: Option<f64>| cell(rate.map(|rate| format!("{rate:.1}")));
    let latency = loading.and_then(|loading| loading.latency.as_ref()?.p99_ms);
    let spool = intake.and_then(|intake| intake.spool.as_ref()?.depth);
    let figures = [
        rate(intake.and_then(|intake| intake.accepted_per_second)),
        rate(loading.and_then(|loading| loading.loaded_per_second)),
        cell(latency.map(|millis| span(Duration::from_secs_f64(millis / 1000.0)))),
        cell(spool.map(|depth| depth.to_string())),
        cell(loading.and_then(|loading| loading.warehouse.as_ref()).map(warehouse)),
    ];
    let mut cells = row.into_iter().chain(figures);
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

fn warehouse(state: &WarehouseState) -> String {
    match state {
        WarehouseState::Reached { .. } => "reached".to_owned(),
        WarehouseState::Away { since, why } => {
            let lasts = time::OffsetDateTime::now_utc() - *since;
            format!("away for {}: {why}", span(lasts.unsigned_abs()))
        }
    }
}

fn cell(text: Option<String>) -> String {
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
