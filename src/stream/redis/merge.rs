//! One page, and one report, of several partitions. Pure.
//!
//! Invariants: ids in a merged page rise (or fall) over all partitions, and none is left out before
//! its end. A figure of the stream is the sum, the oldest or the lowest of its partitions', and
//! unknown where one of them is.

use crate::stream::{
    ConsumerReport, Entry, GroupReport, Lost, MOST_PARTITIONS, PAGE_BYTES, Page, PartitionReport, Range, ReadOrder,
    StreamId, StreamReport,
};

/// Entries asked of a partition at least.
const LEAST: usize = 8;

/// The part of a range over so many partitions that lies in one of them; `None` where none does.
pub(super) fn part_of(range: Range, partition: u16, count: u16) -> Option<Range> {
    let from = match range.from.part <= partition {
        true => Some(range.from),
        false => range.from.successor(),
    };
    let to = match range.to.part >= partition || range.to == StreamId::MAX {
        true => Some(range.to),
        false => range.to.predecessor(),
    };
    let fair = 2 * range.page() / usize::from(count.max(1));
    let part = Range {
        from: from?.with_part(partition),
        to: to?.with_part(partition),
        count: fair.max(LEAST).min(range.page()),
        ..range
    };
    (part.from <= part.to).then_some(part)
}

/// The page of `range` that these pages of its parts make up. What one of them has beyond the end of
/// another is left to the next page.
pub(super) fn merged_page(range: Range, parts: Vec<Page>) -> Page {
    let is_first = |one: StreamId, other: StreamId| match range.order {
        ReadOrder::OldestFirst => one <= other,
        ReadOrder::NewestFirst => one >= other,
    };
    let mut end: Option<StreamId> = None;
    for part in parts.iter().filter(|part| part.next.is_some()) {
        let last = part.entries.last().map(|entry| entry.id);
        end = match (end, last) {
            (Some(end), Some(last)) if is_first(end, last) => Some(end),
            (end, last) => last.or(end),
        };
    }
    let mut entries: Vec<Entry> = parts.into_iter().flat_map(|part| part.entries).collect();
    entries.sort_by_key(|entry| entry.id);
    if range.order == ReadOrder::NewestFirst {
        entries.reverse();
    }
    let (all, mut bytes) = (entries.len(), 0);
    let fits = entries.iter().take(range.page()).take_while(|entry| {
        let has_room = bytes < PAGE_BYTES;
        bytes += entry.fields.bytes();
        has_room && end.is_none_or(|end| is_first(entry.id, end))
    });
    entries.truncate(fits.count());
    let is_whole = end.is_none() && entries.len() == all;
    let last = entries.last().map(|entry| entry.id).filter(|_| !is_whole);
    Page {
        next: last.and_then(|last| behind(range, last)),
        entries,
    }
}

/// The rest of a range after `last`, over all partitions.
fn behind(range: Range, last: StreamId) -> Option<Range> {
    let rest = match range.order {
        ReadOrder::OldestFirst => last.part.checked_add(1).map(|part| Range {
            from: last.with_part(part),
            ..range
        }),
        ReadOrder::NewestFirst => match last.part.checked_sub(1) {
            Some(part) => Some(last.with_part(part)),
            None => last.predecessor().map(|id| id.with_part(MOST_PARTITIONS - 1)),
        }
        .map(|to| Range { to, ..range }),
    };
    rest.filter(|rest| rest.from <= rest.to || rest.to == StreamId::MAX)
}

/// The report of a stream whose partitions, by the names of their logs and servers, report these, or
/// nothing; `None` where none reports.
pub(super) fn merged_report(
    parts: impl Iterator<Item = ((String, String), Option<StreamReport>)>,
) -> Option<StreamReport> {
    let mut merged: Option<StreamReport> = None;
    let (mut partitions, mut is_whole) = (Vec::new(), true);
    for ((names, mut part), number) in parts.zip(0u16..) {
        is_whole &= part.is_some();
        if let Some(part) = &mut part {
            give_part(part, number);
        }
        partitions.push(of_partition(names, number, part.as_ref()));
        merged = match (merged, part) {
            (Some(merged), Some(part)) => Some(sum(merged, part)),
            (merged, part) => merged.or(part),
        };
    }
    let mut merged = merged?;
    if !is_whole {
        merged.groups.iter_mut().for_each(|group| group.lag = None);
    }
    if partitions.len() > 1 {
        merged.partitions = partitions;
    }
    Some(merged)
}

fn give_part(report: &mut StreamReport, part: u16) {
    report.last_id = report.last_id.map(|id| id.with_part(part));
    for group in &mut report.groups {
        group.last_delivered.part = part;
        group.needs_from.part = part;
    }
}

fn of_partition((stream, server): (String, String), partition: u16, report: Option<&StreamReport>) -> PartitionReport {
    let ours = report.and_then(|report| report.groups.iter().find(|group| group.ours));
    PartitionReport {
        partition,
        stream,
        server,
        length: report.map(|report| report.length),
        lag: ours.and_then(|group| group.lag),
        pending: report.map(|_| ours.map_or(0, |group| group.pending)),
        oldest_backlog: report.and_then(|report| report.oldest_backlog),
    }
}

/// The dead letters are of the whole stream, in each report.
fn sum(one: StreamReport, other: StreamReport) -> StreamReport {
    let mut groups = one.groups;
    for group in other.groups {
        match groups.iter_mut().find(|known| known.name == group.name) {
            Some(known) => add_group(known, group),
            None => groups.push(group),
        }
    }
    let mut consumers = one.consumers;
    for consumer in other.consumers {
        match consumers.iter_mut().find(|known| known.name == consumer.name) {
            Some(known) => add_consumer(known, &consumer),
            None => consumers.push(consumer),
        }
    }
    StreamReport {
        length: one.length + other.length,
        maxlen: one.maxlen + other.maxlen,
        entries_added: one
            .entries_added
            .zip(other.entries_added)
            .map(|(one, other)| one + other),
        oldest_backlog: one.oldest_backlog.max(other.oldest_backlog),
        oldest_pending: one.oldest_pending.max(other.oldest_pending),
        last_id: one.last_id.max(other.last_id),
        lost: Lost {
            times: one.lost.times + other.lost.times,
            entries: one.lost.entries + other.lost.entries,
            dead_letters: one.lost.dead_letters + other.lost.dead_letters,
        },
        groups,
        consumers,
        ..one
    }
}

/// A partition that a group has read to its end does not hold back what it was given last, nor one
/// of which it has acked everything what it needs from.
fn add_group(known: &mut GroupReport, other: GroupReport) {
    let lowest =
        |(one, is_done): (StreamId, bool), (other, other_is_done): (StreamId, bool)| match (is_done, other_is_done) {
            (true, true) => one.max(other),
            (true, false) => other,
            (false, true) => one,
            (false, false) => one.min(other),
        };
    let is_read = |group: &GroupReport| group.lag == Some(0);
    let is_done = |group: &GroupReport| is_read(group) && group.pending == 0;
    known.last_delivered = lowest(
        (known.last_delivered, is_read(known)),
        (other.last_delivered, is_read(&other)),
    );
    known.needs_from = lowest((known.needs_from, is_done(known)), (other.needs_from, is_done(&other)));
    known.pending += other.pending;
    known.lag = known.lag.zip(other.lag).map(|(one, other)| one + other);
}

/// It may read several partitions: it is as idle as in the one where it was least.
fn add_consumer(known: &mut ConsumerReport, other: &ConsumerReport) {
    known.pending += other.pending;
    known.idle = known.idle.min(other.idle);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stream::{Destination, Fields};

    /// Entries of three partitions, some with equal times and sequences.
    fn log(partition: u16) -> Vec<StreamId> {
        let ids = (0..40u64).filter(|n| n % 3 == u64::from(partition) || n % 5 == 0);
        ids.map(|n| StreamId::new(n / 4, n % 4).with_part(partition)).collect()
    }

    /// As a partition answers.
    fn page(range: Range, partition: u16) -> Page {
        let plain = |id: StreamId| id.with_part(0);
        let mut found = log(partition);
        found.retain(|id| (plain(range.from)..=plain(range.to)).contains(&plain(*id)));
        if range.order == ReadOrder::NewestFirst {
            found.reverse();
        }
        let is_end = found.len() < range.page();
        found.truncate(range.page());
        let entry = |id: &StreamId| Entry {
            id: *id,
            fields: Fields::default(),
        };
        Page {
            next: Some(range).filter(|_| !is_end),
            entries: found.iter().map(entry).collect(),
        }
    }

    #[test]
    fn pages_of_partitions_are_one_range_from_either_end() {
        let mut all = [0, 1, 2].map(log).concat();
        all.sort();
        for order in [ReadOrder::OldestFirst, ReadOrder::NewestFirst] {
            for count in [1, 2, 7, 100] {
                for (from, to) in [
                    (StreamId::MIN, StreamId::MAX),
                    (all[5], all[31]),
                    (all[13].with_part(1), all[20].with_part(1)),
                ] {
                    let mut rest = Some(Range {
                        from,
                        to,
                        ..Range::all(Destination::Stream, order, count)
                    });
                    let mut found = Vec::new();
                    while let Some(range) = rest {
                        let parts = (0..3).filter_map(|n| Some(page(part_of(range, n, 3)?, n)));
                        let page = merged_page(range, parts.collect());
                        assert!(page.entries.len() <= count);
                        found.extend(page.entries.iter().map(|entry| entry.id));
                        rest = page.next;
                    }
                    let mut expected = all.clone();
                    expected.retain(|id| *id >= from && (*id <= to || to == StreamId::MAX));
                    if order == ReadOrder::NewestFirst {
                        expected.reverse();
                    }
                    assert_eq!(found, expected, "{order:?} {count} {from} {to}");
                }
            }
        }
    }

    #[test]
    fn a_report_sums_and_is_unknown_where_a_part_is() {
        let part = |length, pending, lag, age: u64| StreamReport {
            length,
            maxlen: 25,
            dead_letters: 3,
            oldest_backlog: Some(Duration::from_secs(age)),
            last_id: Some(StreamId::new(length, 0)),
            groups: vec![GroupReport {
                name: "g".to_owned(),
                ours: true,
                pending,
                lag,
                last_delivered: StreamId::new(length, 1),
                needs_from: StreamId::new(length, 2),
            }],
            consumers: vec![ConsumerReport {
                name: "c".to_owned(),
                pending,
                idle: Duration::from_secs(age),
            }],
            ..StreamReport::default()
        };
        let name = |n: u64| (format!("s{n}"), "redis:6379".to_owned());
        let merged = |parts: [Option<StreamReport>; 2]| merged_report((0..).map(name).zip(parts));
        let report = merged([Some(part(5, 1, Some(2), 7)), Some(part(9, 0, Some(0), 3))]).unwrap();
        assert_eq!((report.length, report.maxlen, report.dead_letters), (14, 50, 3));
        assert_eq!(report.oldest_backlog, Some(Duration::from_secs(7)));
        assert_eq!(report.last_id, Some(StreamId::new(9, 0).with_part(1)));
        assert_eq!(
            (report.consumers[0].pending, report.consumers[0].idle.as_secs()),
            (1, 3)
        );
        let group = &report.groups[0];
        assert_eq!((group.pending, group.lag), (1, Some(2)));
        assert_eq!(group.last_delivered, StreamId::new(5, 1));
        assert_eq!(group.needs_from, StreamId::new(5, 2), "the other has nothing to do");
        let pending = Vec::from_iter(report.partitions.iter().map(|one| (one.partition, one.pending)));
        assert_eq!(pending, [(0, Some(1)), (1, Some(0))]);
        let unknown = merged([Some(part(5, 1, None, 7)), Some(part(9, 0, Some(0), 3))]).unwrap();
        assert_eq!(unknown.groups[0].lag, None);
        let silent = merged([None, Some(part(9, 4, Some(0), 3))]).unwrap();
        assert_eq!(
            (silent.length, silent.groups[0].lag, silent.groups[0].pending),
            (9, None, 4)
        );
        assert_eq!(silent.partitions[0].length, None);
        assert!(merged([None, None]).is_none());
        let single = merged_report([(name(0), Some(part(5, 1, None, 7)))].into_iter());
        assert!(single.unwrap().partitions.is_empty());
    }
}
