//! What a replay reads from which store, and what of its range neither has.
//!
//! Invariants: where the stream may lack an entry of the range, `order_events` is read for it; what
//! both have is applied twice, which the version rule makes harmless. A time from which neither has
//! anything may be a loss or a quiet time, which no store can tell apart, so both are named.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::run::{HistoryStep, MissingRange, Remaining, ReplayRequest, TimeSpan};
use crate::operations::context::{Operations, OperationsError};
use crate::operations::redrive_run::IdRange;
use crate::stream::{Destination, Range, ReadOrder, StreamId, StreamReport};

/// A shorter time without any event is not reported.
const MIN_GAP: Duration = Duration::MINUTE;

/// A time from which neither store has anything: after the first, before the second.
type Gap = (OffsetDateTime, OffsetDateTime);

/// The range, and what the stream has of it.
struct Retained {
    /// As it was asked for.
    from: Option<StreamId>,
    to: StreamId,
    /// Of the stream.
    first: Option<StreamId>,
    newest: Option<StreamId>,
    /// Nothing was ever removed from it, as far as it knows: one that was emptied knows nothing of
    /// what was before.
    has_all: bool,
    /// Behind its first entry some may be gone: that one is pending, and the trimmer removes one by
    /// one what is acked behind it; or each of its partitions begins at another entry.
    is_patchy: bool,
}

impl Operations {
    /// What to read: the stream, and `order_events` for what the stream may no longer have.
    pub(super) async fn plan(&self, request: &ReplayRequest) -> Result<(Remaining, HistoryStep), OperationsError> {
        let report = self.stream.report().await?;
        let wanted = request.group.as_deref();
        let ours = report.groups.iter().find(|group| group.ours);
        let is_ours = wanted.is_none() || wanted == ours.map(|group| group.name.as_str());
        if !is_ours && !report.groups.iter().any(|group| Some(group.name.as_str()) == wanted) {
            return Err(OperationsError::NotFound("group"));
        }
        let first = Range::all(Destination::Stream, ReadOrder::OldestFirst, 1);
        let first = self.stream.range(first).await?.entries.first().map(|entry| entry.id);
        let retained = Retained::of(request, &report, first);
        let (mut rest, mut replayed) = (Remaining::default(), HistoryStep::default());
        (rest.stream, replayed.stored) = (retained.bounds(), Some(0));
        if retained.is_whole() {
            return Ok((rest, replayed));
        }
        let Some(warehouse) = self.warehouse.as_ref().filter(|_| is_ours) else {
            let reason = match is_ours {
                true => "the stream no longer has all of it, and this process has no warehouse",
                false => {
                    "the stream no longer has all of it, and only the group that loads the warehouse can be served from \
                     order_events"
                }
            };
            replayed.missing = missing(&Vec::from_iter(retained.gap()), reason);
            return Ok((rest, replayed));
        };
        let newest = warehouse.last(retained.edge()).await?;
        if retained.has_all && newest.is_none() {
            return Ok((rest, replayed));
        }
        let span = retained.span();
        let oldest = warehouse.first(span.after, span.before).await?;
        let gaps = retained.gaps(oldest, newest);
        replayed.missing = missing(&gaps, "neither the stream nor order_events has anything from then");
        if oldest.is_some() {
            replayed.stored = self.count(&span).await.ok();
            rest.stored = Some(span);
        }
        Ok((rest, replayed))
    }
}

impl Retained {
    fn of(request: &ReplayRequest, report: &StreamReport, first: Option<StreamId>) -> Self {
        let has_all = report.entries_added == Some(report.length);
        let needs = report.groups.iter().filter(|group| group.pending > 0);
        let needed = needs.map(|group| group.needs_from).min();
        let is_pinned = first.is_some() && needed.is_some_and(|needed| Some(needed) <= first);
        Self {
            from: request.from,
            to: request.to.unwrap_or(StreamId::MAX),
            first,
            newest: report.last_id,
            has_all,
            is_patchy: !has_all && (is_pinned || !report.partitions.is_empty()),
        }
    }

    fn begin(&self) -> StreamId {
        self.from.unwrap_or(StreamId::MIN)
    }

    /// What is to be read from the stream.
    fn bounds(&self) -> Option<IdRange> {
        let bounds = IdRange {
            from: self.begin().max(self.first?),
            to: self.to.min(self.newest.unwrap_or_default()),
        };
        Some(bounds).filter(|bounds| bounds.from <= bounds.to)
    }

    /// Whether the stream has the whole range.
    fn is_whole(&self) -> bool {
        !self.is_patchy && self.first.is_some_and(|first| self.begin() >= first)
    }

    /// What is to be read from `order_events`.
    fn span(&self) -> TimeSpan {
        let last = match self.first {
            Some(first) if !self.is_patchy => first.min(self.to),
            Some(_) => self.to.min(self.newest.unwrap_or_default()),
            None => self.to,
        };
        TimeSpan {
            after: time_of(self.begin()),
            event_id: String::new(),
            // What came in the same millisecond as the first entry may be in either.
            before: time_of(last) + Duration::MILLISECOND,
        }
    }

    /// Before this, `order_events` alone may have something: the first entry; of an empty stream,
    /// what comes after the last one it had.
    fn edge(&self) -> OffsetDateTime {
        match (self.first, self.newest) {
            (Some(first), _) => time_of(first),
            (None, Some(newest)) => time_of(newest) + Duration::MILLISECOND,
            (None, None) => OffsetDateTime::now_utc(),
        }
    }

    /// What is gone from the stream, where `order_events` is not read.
    fn gap(&self) -> Option<Gap> {
        let edge = if self.is_patchy {
            time_of(self.newest.unwrap_or_default())
        } else {
            self.edge()
        };
        let from = self.from.or(self.first.filter(|_| self.is_patchy))?;
        (!self.has_all).then(|| (time_of(from), edge.min(time_of(self.to))))
    }

    /// Of what neither has: what is before the first event in `order_events`, and what is between
    /// the last one there and the stream's first. `oldest` is in the range, `newest` may be before
    /// or after it.
    fn gaps(&self, oldest: Option<OffsetDateTime>, newest: Option<OffsetDateTime>) -> Vec<Gap> {
        let (from, to) = (self.from.map(time_of), time_of(self.to));
        let end = self.edge();
        let gaps = match newest.filter(|newest| from.is_none_or(|from| *newest >= from)) {
            Some(newest) => [from.map(|from| (from, oldest.unwrap_or(end))), Some((newest, end))],
            None => [from.map(|from| (from, end)), None],
        };
        let gaps = gaps.into_iter().flatten();
        gaps.map(|(begin, end)| (begin, end.min(to))).collect()
    }
}

/// The longest gap, with the other one in its reason.
fn missing(gaps: &[Gap], reason: &str) -> Option<MissingRange> {
    let mut gaps = Vec::from_iter(gaps.iter().filter(|(from, to)| *to - *from >= MIN_GAP));
    gaps.sort_by_key(|(from, to)| *to - *from);
    let &(from, to) = gaps.pop()?;
    let mut reason = format!("{reason}: lost, or a quiet time");
    for (from, to) in gaps {
        if let (Ok(from), Ok(to)) = (from.format(&Rfc3339), to.format(&Rfc3339)) {
            reason += &format!("; likewise {from} to {to}");
        }
    }
    Some(MissingRange { from, to, reason })
}

/// The time in an id; the last time that can be written for ids beyond it.
fn time_of(id: StreamId) -> OffsetDateTime {
    let last = time::macros::datetime!(9999-01-01 00:00 UTC);
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(id.ms) * 1_000_000).map_or(last, |at| at.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::PartitionReport;

    const HOUR: u64 = 3_600_000;

    fn at(hour: u64) -> OffsetDateTime {
        time_of(id(hour))
    }

    fn id(hour: u64) -> StreamId {
        StreamId::new(hour * HOUR, 0)
    }

    fn told(retained: &Retained, stored: Option<(u64, u64)>) -> Option<(u64, u64, bool)> {
        let (oldest, newest) = (
            stored.map(|(oldest, _)| at(oldest)),
            stored.map(|(_, newest)| at(newest)),
        );
        let missing = missing(&retained.gaps(oldest, newest), "nobody")?;
        let hour = |at: OffsetDateTime| at.unix_timestamp().unsigned_abs() / 3600;
        Some((
            hour(missing.from),
            hour(missing.to),
            missing.reason.contains("likewise"),
        ))
    }

    #[test]
    fn a_gap_is_what_neither_has() {
        let retained = |from: Option<u64>, to: Option<u64>| Retained {
            from: from.map(id),
            to: to.map_or(StreamId::MAX, id),
            first: Some(id(15)),
            newest: Some(id(20)),
            has_all: false,
            is_patchy: false,
        };
        for (from, to, stored, expected) in [
            // A backup of hour 10, and a stream that goes back to hour 15.
            (Some(9), None, Some((9, 10)), Some((10, 15, false))),
            (None, None, Some((1, 10)), Some((10, 15, false))),
            (Some(11), None, Some((9, 10)), Some((11, 15, false))),
            (Some(9), Some(12), Some((9, 10)), Some((10, 12, false))),
            // Before the first one, too; the longer one is told first.
            (Some(8), None, Some((9, 10)), Some((10, 15, true))),
            (Some(1), None, Some((9, 10)), Some((1, 9, true))),
            // Nothing in the range, and something behind it.
            (Some(5), Some(8), Some((9, 15)), Some((5, 8, false))),
            (Some(5), None, None, Some((5, 15, false))),
            // Nobody asked for what is before.
            (None, None, None, None),
            (Some(9), None, Some((9, 15)), None),
            (Some(9), Some(12), Some((9, 15)), None),
        ] {
            assert_eq!(
                told(&retained(from, to), stored),
                expected,
                "{from:?} to {to:?}, {stored:?}"
            );
        }
    }

    #[test]
    fn trimmed_partitions_begin_at_different_entries() {
        let partition = |partition| PartitionReport {
            partition,
            stream: String::new(),
            server: String::new(),
            length: Some(2),
            lag: Some(0),
            pending: Some(0),
            oldest_backlog: None,
        };
        let request = ReplayRequest {
            from: Some(id(17)),
            ..ReplayRequest::default()
        };
        for (partitions, added, is_whole) in [(0, 9, true), (2, 4, true), (2, 9, false)] {
            let report = StreamReport {
                length: 4,
                entries_added: Some(added),
                last_id: Some(id(20)),
                partitions: (0..partitions).map(partition).collect(),
                ..StreamReport::default()
            };
            let retained = Retained::of(&request, &report, Some(id(15)));
            assert_eq!(retained.is_whole(), is_whole, "{partitions} partitions, {added} added");
            assert_eq!(retained.bounds().map(|bounds| bounds.from), Some(id(17)));
            let read_to = if is_whole { at(15) } else { at(20) };
            assert_eq!(retained.span().before, read_to + Duration::MILLISECOND);
        }
    }

    #[test]
    fn a_few_seconds_are_no_gap() {
        let (from, to) = (at(9), at(9) + Duration::seconds(59));
        assert_eq!(missing(&[(from, to)], ""), None);
        let told = missing(&[(from, to + Duration::SECOND)], "").unwrap();
        assert!(!told.is_long());
        assert!(missing(&[(from, at(10))], "").unwrap().is_long());
    }
}
