//! Where a capture stands when it connects: what slot, checkpoint and server say together. Pure.
//!
//! Owns the decision between streaming on, a gap, and a first start.

use super::record::Record;
use crate::metrics::GapReason;
use crate::postgres::Lsn;

/// The slot as the server has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SlotState {
    /// Below it the server has forgotten what was committed.
    pub(super) confirmed: u64,
    /// Whether it can be streamed from.
    pub(super) is_usable: bool,
    /// WAL that it retains.
    pub(super) retained_bytes: Option<u64>,
    /// WAL that may still be written before it is lost; `None`: without a bound.
    pub(super) safe_bytes: Option<u64>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(super) wal_status: Option<String>,
    /// Whether it is to be copied to standbys; `None`: before PostgreSQL 17.
    pub(super) is_failover: Option<bool>,
}

/// The server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceServer {
    pub(super) system: String,
    pub(super) history: TimelineHistory,
    /// End of its WAL.
    pub(super) wal_end: u64,
    /// What the publication holds.
    pub(super) published: String,
}

/// Timelines up to the server's own, each with the position at which it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TimelineHistory {
    /// The server's timeline.
    pub(super) current: u32,
    /// Ancestors, oldest first: timeline and its end.
    ancestors: Vec<(u32, u64)>,
}

impl TimelineHistory {
    /// Reads a history file: a timeline, the position of its end, and a reason, a line each.
    pub(super) fn parse(current: u32, file: &str) -> Self {
        let ancestor = |line: &str| {
            let mut words = line.split_whitespace();
            let timeline = words.next()?.parse().ok()?;
            let end: Lsn = words.next()?.parse().ok()?;
            Some((timeline, u64::from(end)))
        };
        Self {
            current,
            ancestors: file.lines().filter_map(ancestor).collect(),
        }
    }

    /// The timeline on which a position was written.
    pub(super) fn timeline_of(&self, lsn: u64) -> u32 {
        let found = self.ancestors.iter().find(|(_, end)| lsn < *end);
        found.map_or(self.current, |(timeline, _)| *timeline)
    }

    /// How far a timeline belongs to this history; `None` where it does not.
    fn end_of(&self, timeline: u32) -> Option<u64> {
        if timeline == self.current {
            return Some(u64::MAX);
        }
        self.ancestors
            .iter()
            .find(|(ancestor, _)| *ancestor == timeline)
            .map(|(_, end)| *end)
    }

    /// The newest position that a timeline which is no ancestor can share with this history.
    fn fork(&self, timeline: u32) -> u64 {
        let newer = self.ancestors.iter().rev().find(|(ancestor, _)| *ancestor < timeline);
        newer.map_or(0, |(_, end)| *end)
    }
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing was ever captured: stream from there, and walk as configured. Without a position
    /// the slot is made, and it begins there.
    First { from: Option<u64> },
    /// Stream on from the checkpoint.
    Streaming,
    /// Changes were lost: stream from there, and walk. Without a position the slot is made anew,
    /// and it begins there.
    Gap { reason: GapReason, from: Option<u64> },
    /// The checkpoint is of another cluster.
    OtherCluster,
}

/// Decides.
pub(super) fn standing(record: Option<&Record>, slot: Option<&SlotState>, server: &SourceServer) -> Standing {
    let gap = |reason, from| Standing::Gap { reason, from };
    if record.is_some_and(|record| record.system != server.system) {
        return Standing::OtherCluster;
    }
    let (record, slot) = match (record, slot) {
        (None, None) => return Standing::First { from: None },
        // A former start ended before it could note where its slot begins.
        (Some(record), None) if record.is_new => return Standing::First { from: None },
        (Some(record), Some(slot)) if record.is_new && slot.is_usable => {
            return Standing::First {
                from: Some(slot.confirmed),
            };
        }
        (Some(_), None) => return gap(GapReason::SlotMissing, None),
        (_, Some(slot)) if !slot.is_usable => return gap(GapReason::SlotLost, None),
        (None, Some(slot)) => return gap(GapReason::CheckpointMissing, Some(slot.confirmed)),
        (Some(record), Some(slot)) => (record, slot),
    };
    let shared = match server.history.end_of(record.timeline) {
        Some(end) => end,
        None => server.history.fork(record.timeline),
    }
    .min(server.wal_end);
    if record.position.lsn.max(record.position.commit) > shared {
        return gap(GapReason::Timeline, Some(shared.max(slot.confirmed)));
    }
    if record.position.lsn < slot.confirmed {
        return gap(GapReason::CheckpointBehind, Some(slot.confirmed));
    }
    if record.published != server.published {
        // Made anew: before PostgreSQL 18 a slot never gets past a time without its publication.
        return gap(GapReason::Publication, None);
    }
    Standing::Streaming
}

#[cfg(test)]
mod tests {
    use super::super::changes::WalPosition;
    use super::*;

    fn record(timeline: u32, lsn: u64) -> Record {
        Record {
            system: "7".to_owned(),
            timeline,
            position: WalPosition::at(lsn),
            published: "p".to_owned(),
            ..Record::default()
        }
    }

    fn server(history: TimelineHistory, wal_end: u64) -> SourceServer {
        SourceServer {
            system: "7".to_owned(),
            history,
            wal_end,
            published: "p".to_owned(),
        }
    }

    #[test]
    fn every_combination_has_its_answer() {
        let gap = |reason, from| Standing::Gap { reason, from };
        let slot = |confirmed| {
            Some(SlotState {
                confirmed,
                is_usable: true,
                ..SlotState::default()
            })
        };
        let lost = Some(SlotState {
            confirmed: 50,
            ..SlotState::default()
        });
        let one = || TimelineHistory::parse(1, "");
        let third = || TimelineHistory::parse(3, "1\t0/60\tno recovery target specified\n\n2\t0/90\tbefore\n");
        for (record_of, slot, history, wal_end, expected) in [
            (None, None, one(), 200, Standing::First { from: None }),
            (None, slot(50), one(), 200, gap(GapReason::CheckpointMissing, Some(50))),
            (None, lost.clone(), one(), 200, gap(GapReason::SlotLost, None)),
            (Some((1, 100)), slot(100), one(), 200, Standing::Streaming),
            (Some((1, 100)), slot(99), one(), 200, Standing::Streaming),
            (
                Some((1, 100)),
                slot(101),
                one(),
                200,
                gap(GapReason::CheckpointBehind, Some(101)),
            ),
            (Some((1, 100)), None, one(), 200, gap(GapReason::SlotMissing, None)),
            (Some((1, 100)), lost, one(), 200, gap(GapReason::SlotLost, None)),
            (Some((1, 100)), slot(90), one(), 95, gap(GapReason::Timeline, Some(95))),
            // 0x60 is 96, 0x90 is 144.
            (Some((1, 96)), slot(90), third(), 200, Standing::Streaming),
            (
                Some((1, 97)),
                slot(90),
                third(),
                200,
                gap(GapReason::Timeline, Some(96)),
            ),
            (Some((2, 144)), slot(90), third(), 200, Standing::Streaming),
            (
                Some((2, 145)),
                slot(90),
                third(),
                200,
                gap(GapReason::Timeline, Some(144)),
            ),
            (
                Some((4, 190)),
                slot(90),
                third(),
                200,
                gap(GapReason::Timeline, Some(144)),
            ),
        ] {
            let record = record_of.map(|(timeline, lsn)| record(timeline, lsn));
            let found = standing(record.as_ref(), slot.as_ref(), &server(history, wal_end));
            assert_eq!(found, expected, "{record_of:?} {slot:?}");
        }
    }

    #[test]
    fn a_first_start_that_ended_early_goes_on_and_is_no_gap() {
        let begun = Record {
            is_new: true,
            ..record(0, 0)
        };
        let server = server(TimelineHistory::parse(1, ""), 200);
        let mut slot = SlotState {
            confirmed: 50,
            is_usable: true,
            ..SlotState::default()
        };
        let found = |slot: Option<&SlotState>| standing(Some(&begun), slot, &server);
        assert_eq!(found(None), Standing::First { from: None });
        assert_eq!(found(Some(&slot)), Standing::First { from: Some(50) });
        slot.is_usable = false;
        let lost = Standing::Gap {
            reason: GapReason::SlotLost,
            from: None,
        };
        assert_eq!(found(Some(&slot)), lost);
    }

    #[test]
    fn another_cluster_and_another_publication_are_noticed() {
        let slot = Some(SlotState {
            confirmed: 50,
            is_usable: true,
            ..SlotState::default()
        });
        let mut other = server(TimelineHistory::parse(1, ""), 200);
        other.published = "q".to_owned();
        let found = standing(Some(&record(1, 60)), slot.as_ref(), &other);
        assert_eq!(
            found,
            Standing::Gap {
                reason: GapReason::Publication,
                from: None
            }
        );
        other.system = "8".to_owned();
        assert_eq!(standing(Some(&record(1, 60)), None, &other), Standing::OtherCluster);
    }

    #[test]
    fn a_position_has_the_timeline_it_was_written_on() {
        let history = TimelineHistory::parse(3, "1\t0/60\twhy\n2\t0/90\twhy\n");
        for (lsn, timeline) in [(5, 1), (95, 1), (96, 2), (143, 2), (144, 3), (9999, 3)] {
            assert_eq!(history.timeline_of(lsn), timeline, "{lsn}");
        }
    }
}
