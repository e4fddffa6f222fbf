//! What health needs to know, from one read-only script.

use std::time::Duration;

use super::server::Server;
use super::{Keys, scripts};
use crate::stream::{ConsumerReport, GroupReport, StreamError, StreamId, StreamReport};

/// Entries counted at most where Redis does not know a lag.
const COUNT_LAG: usize = 1000;

/// Answer of `report.lua`.
type Figures = (
    u64,
    u64,
    Option<u64>,
    Option<StreamId>,
    u64,
    Vec<GroupFigures>,
    Vec<(String, u64, u64)>,
);
type GroupFigures = (String, u64, StreamId, Option<u64>, Option<StreamId>, Option<StreamId>);

pub(super) async fn report(server: &Server, keys: &Keys) -> Result<StreamReport, StreamError> {
    let mut script = scripts::REPORT.key(&keys.stream);
    script.key(&keys.dead_letters).arg(&keys.group).arg(COUNT_LAG);
    let (now, length, entries_added, last_id, dead_letters, groups, consumers): Figures = server.run(&script).await?;
    let age = |id: Option<StreamId>| id.map(|id| Duration::from_millis(now.saturating_sub(id.ms)));
    let ours = groups.iter().find(|(name, ..)| *name == keys.group);
    let (oldest_pending, oldest_backlog) = ours.map_or((None, None), |&(_, _, _, _, pending, unread)| {
        (age(pending), age([pending, unread].into_iter().flatten().min()))
    });
    Ok(StreamReport {
        length,
        maxlen: keys.maxlen,
        entries_added,
        dead_letters,
        dead_letters_maxlen: keys.dead_letters_maxlen,
        oldest_backlog,
        oldest_pending,
        last_id: last_id.filter(|id| *id != StreamId::default()),
        consumers: consumers.into_iter().map(consumer_report).collect(),
        groups: groups
            .into_iter()
            .map(|group| group_report(group, &keys.group))
            .collect(),
    })
}

fn consumer_report((name, pending, idle): (String, u64, u64)) -> ConsumerReport {
    ConsumerReport {
        name,
        pending,
        idle: Duration::from_millis(idle),
    }
}

fn group_report((name, pending, last_delivered, lag, first_pending, _): GroupFigures, ours: &str) -> GroupReport {
    let unread = last_delivered.successor().unwrap_or(last_delivered);
    GroupReport {
        ours: name == ours,
        name,
        pending,
        lag,
        last_delivered,
        needs_from: first_pending.map_or(unread, |id| id.min(unread)),
    }
}
