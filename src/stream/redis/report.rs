//! What health needs to know, from one read-only script.

use std::time::Duration;

use super::dead_letters::DeadLetterFigures;
use super::keys::{IDS_A_CALL, Keys};
use super::loss_detector::{LossDetector, Position};
use super::scripts;
use super::server::Server;
use crate::stream::{ConsumerReport, GroupReport, REPLAY_CONSUMER, StreamError, StreamId, StreamReport};

/// Entries counted at most where Redis does not know a lag.
const COUNT_LAG: usize = 1000;
/// Entries counted at most above one that is gone.
const COUNT_ABOVE: usize = 10_000;

/// Answer of `report.lua`.
type ReportReply = (
    u64,
    u64,
    Option<u64>,
    Option<StreamId>,
    Vec<GroupFigures>,
    Vec<(String, u64, u64)>,
    Option<u64>,
    Option<String>,
);
type GroupFigures = (String, u64, StreamId, Option<u64>, Option<StreamId>, Option<StreamId>);

pub(super) async fn report(
    server: &Server,
    keys: &Keys,
    loss_detector: &LossDetector,
    letters: DeadLetterFigures,
) -> Result<StreamReport, StreamError> {
    let mut script = scripts::REPORT.key(&keys.stream);
    let comparison = loss_detector.compare().await;
    script.arg(&keys.group).arg(COUNT_LAG);
    script.arg(comparison.newest_before()).arg(COUNT_ABOVE);
    let (now, length, entries_added, last_id, groups, consumers, above, run): ReportReply = server.run(&script).await?;
    let age = |id: Option<StreamId>| id.and_then(|id| age(id, now));
    let ours = groups.iter().find(|(name, ..)| *name == keys.group);
    let (oldest_pending, oldest_backlog) = ours.map_or((None, None), |&(_, _, _, _, pending, unread)| {
        (age(pending), age([pending, unread].into_iter().flatten().min()))
    });
    let position = Position {
        run,
        last_id: last_id.unwrap_or_default(),
        added: entries_added.unwrap_or_default(),
        backlog: ours.map_or(length, |&(_, pending, _, lag, ..)| pending + lag.unwrap_or_default()),
    };
    let absent = absent(server, keys, comparison.doubtful(&position, above)).await?;
    let lost = comparison.end(position, above, absent);
    Ok(StreamReport {
        lost,
        partitions: Vec::new(),
        length,
        maxlen: keys.maxlen,
        entries_added,
        dead_letters: letters.length,
        dead_letters_added: letters.added,
        oldest_dead_letter: age(letters.first),
        dead_letters_maxlen: keys.dead_letters_maxlen,
        oldest_backlog,
        oldest_pending,
        last_id: last_id.filter(|id| *id != StreamId::default()),
        consumers: consumers
            .into_iter()
            .filter(|(name, ..)| name != REPLAY_CONSUMER)
            .map(consumer_report)
            .collect(),
        groups: groups
            .into_iter()
            .map(|group| group_report(group, &keys.group))
            .collect(),
    })
}

/// Age of an entry; `None` where a producer chose an id that is far ahead of the server's clock.
fn age(id: StreamId, now: u64) -> Option<Duration> {
    let is_known = id.ms <= now.saturating_add(3_600_000);
    is_known.then(|| Duration::from_millis(now.saturating_sub(id.ms)))
}

/// How many of these are not in the stream.
async fn absent(server: &Server, keys: &Keys, ids: &[StreamId]) -> Result<u64, StreamError> {
    let mut absent = 0;
    for ids in ids.chunks(IDS_A_CALL) {
        let mut script = scripts::ABSENT.key(&keys.stream);
        absent += server.run::<u64>(script.arg(ids)).await?;
    }
    Ok(absent)
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
