//! Trim: what it may remove, what it must remove, and what it must never touch.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::Config;

use super::*;
use crate::harness::seeded;

/// Trims until nothing more goes; answers what went.
async fn trim_all(stream: &dyn Stream) -> Trimmed {
    let mut sum = Trimmed::default();
    loop {
        let step = stream.trim(0).await.unwrap();
        if step == Trimmed::default() {
            return sum;
        }
        sum.prefix += step.prefix;
        sum.pinned += step.pinned;
    }
}

pub async fn a_stream_without_groups_is_never_trimmed(store: &dyn Store) {
    let config = StreamConfig {
        maxlen: 10,
        retain_acked: 0,
        ..stream_config()
    };
    let stream = store.open(&config);
    append(&*stream, 0..10).await;
    assert_eq!(stream.trim(0).await.unwrap(), Trimmed::default());
    assert_eq!(stream.report().await.unwrap().length, 10);
}

pub async fn nothing_goes_as_long_as_our_group_is_missing(store: &dyn Store) {
    let ours = StreamConfig {
        maxlen: 100,
        retain_acked: 0,
        ..stream_config()
    };
    let (stream, others) = (
        store.open(&ours),
        store.open(&StreamConfig {
            group: "analysts".to_owned(),
            ..ours.clone()
        }),
    );
    others.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..100).await;
    others.ack(&ids(&read(&*others, "b", 100).await), &[]).await.unwrap();
    assert_eq!(trim_all(&*stream).await, Trimmed::default(), "even at the cap");
    stream.ensure_group().await.unwrap();
    assert_eq!(ids(&read(&*stream, "a", 100).await), appended);
}

pub async fn acked_entries_are_trimmed_down_to_what_is_retained(store: &dyn Store) {
    let config = StreamConfig {
        retain_acked: 10,
        ..stream_config()
    };
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..1000).await;
    assert_eq!(trim_all(&*stream).await, Trimmed::default(), "nothing is acked");
    read(&*stream, "a", 700).await;
    assert_eq!(trim_all(&*stream).await, Trimmed::default(), "nothing is acked");
    stream.ack(&appended[..600], &[]).await.unwrap();
    assert_eq!(trim_all(&*stream).await, Trimmed { prefix: 590, pinned: 0 });
    assert_eq!(still_there(store, &config).await, appended[590..]);
}

pub async fn near_the_cap_retained_entries_go_too(store: &dyn Store) {
    let config = StreamConfig {
        maxlen: 100,
        retain_acked: 10_000,
        ..stream_config()
    };
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..95).await;
    read(&*stream, "a", 95).await;
    stream.ack(&appended[..50], &[]).await.unwrap();
    assert_eq!(trim_all(&*stream).await, Trimmed { prefix: 5, pinned: 0 });
    stream.confirm_writable(0).await.unwrap();
}

pub async fn acked_entries_behind_an_old_pending_one_are_removed_singly(store: &dyn Store) {
    let config = StreamConfig {
        retain_acked: 0,
        ..stream_config()
    };
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..900).await;
    read(&*stream, "a", 800).await;
    let pending = [5, 6, 7, 300, 799];
    let acked: Vec<_> = (0..800).filter(|n| !pending.contains(n)).map(|n| appended[n]).collect();
    stream.ack(&acked, &[]).await.unwrap();
    assert_eq!(trim_all(&*stream).await, Trimmed { prefix: 5, pinned: 790 });
    let kept: Vec<_> = pending.into_iter().chain(800..900).map(|n| appended[n]).collect();
    assert_eq!(still_there(store, &config).await, kept);
    let report = stream.report().await.unwrap();
    let ours = report.groups.iter().find(|group| group.ours).unwrap();
    assert_eq!((ours.lag, ours.pending), (Some(100), 5), "the lag stays known");
    assert_eq!(ours.needs_from, appended[5]);
}

pub async fn nothing_goes_before_the_slower_group_acked_it(store: &dyn Store) {
    let fast = StreamConfig {
        retain_acked: 0,
        maxlen: 100,
        ..stream_config()
    };
    let slow = StreamConfig {
        group: "analysts".to_owned(),
        ..fast.clone()
    };
    let (stream, other) = (store.open(&fast), store.open(&slow));
    stream.ensure_group().await.unwrap();
    other.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..100).await;
    stream.ack(&ids(&read(&*stream, "a", 100).await), &[]).await.unwrap();
    assert_eq!(trim_all(&*stream).await, Trimmed::default(), "even at the cap");
    read(&*other, "b", 40).await;
    other.ack(&appended[..30], &[]).await.unwrap();
    assert_eq!(trim_all(&*stream).await, Trimmed { prefix: 30, pinned: 0 });
    let report = stream.report().await.unwrap();
    let needs = |name: &str| {
        report
            .groups
            .iter()
            .find(|group| group.name == name)
            .unwrap()
            .needs_from
    };
    assert_eq!(needs("analysts"), appended[30]);
    assert!(needs("pipeline_workers") > appended[99]);
}

pub async fn a_group_that_was_moved_back_still_gets_its_entries(store: &dyn Store) {
    let config = StreamConfig {
        retain_acked: 0,
        maxlen: 300,
        ..stream_config()
    };
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..300).await;
    read(&*stream, "a", 300).await;
    stream.ack(&appended[..250], &[]).await.unwrap();
    // Now it needs entries older than what it has pending.
    store.move_group(&config, appended[10]).await;
    assert_eq!(trim_all(&*stream).await, Trimmed { prefix: 11, pinned: 0 });
    assert_eq!(ids(&read(&*stream, "a", 300).await), appended[11..]);
}

/// One step of the randomized history of two groups.
#[derive(Debug, Clone)]
enum Act {
    Append(u32),
    Read {
        group: usize,
        count: usize,
    },
    /// Acks every pending entry whose place in the pending list is in the mask.
    Ack {
        group: usize,
        mask: u64,
    },
    Rewind {
        group: usize,
        share: u8,
    },
    Trim,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (1_u32..40).prop_map(Act::Append),
        4 => (0_usize..2, 1_usize..40).prop_map(|(group, count)| Act::Read { group, count }),
        4 => (0_usize..2, any::<u64>()).prop_map(|(group, mask)| Act::Ack { group, mask }),
        1 => (0_usize..2, any::<u8>()).prop_map(|(group, share)| Act::Rewind { group, share }),
        4 => Just(Act::Trim),
    ];
    prop::collection::vec(act, 10..60)
}

/// What the groups are known to need.
#[derive(Default)]
struct Model {
    entries: Vec<StreamId>,
    pending: [BTreeSet<StreamId>; 2],
    delivered: [StreamId; 2],
}

impl Model {
    fn needed(&self) -> BTreeSet<StreamId> {
        let unread = |group: usize| self.entries.iter().filter(move |id| **id > self.delivered[group]);
        let pending = self.pending.iter().flatten();
        unread(0).chain(unread(1)).chain(pending).copied().collect()
    }
}

/// Whatever two groups do, what either needs is there, and what neither needs goes in the end.
pub async fn trimming_never_takes_what_a_group_needs(store: &dyn Store) {
    let mut runner = seeded(Config::default());
    for case in 0..25 {
        let history = acts().new_tree(&mut runner).unwrap().current();
        let summary = format!("case {case}: {history:?}");
        store.wipe().await;
        check_history(store, history, &summary).await;
    }
}

async fn check_history(store: &dyn Store, history: Vec<Act>, summary: &str) {
    let configs = ["one", "two"].map(|group| StreamConfig {
        group: group.to_owned(),
        maxlen: 400,
        retain_acked: 7,
        dedupe_window: None,
        ..stream_config()
    });
    let groups = [store.open(&configs[0]), store.open(&configs[1])];
    for group in &groups {
        group.ensure_group().await.unwrap();
    }
    let mut model = Model::default();
    for act in history {
        match act {
            Act::Append(count) => {
                let entries: Vec<_> = (0..count).map(entry).collect();
                let outcomes = groups[0].writer().try_append(&entries).await.unwrap();
                let stored = outcomes.iter().filter(|outcome| **outcome != Appended::Full);
                model.entries.extend(stored.map(accepted));
            }
            Act::Read { group, count } => {
                for id in ids(&read(&*groups[group], "a", count).await) {
                    model.pending[group].insert(id);
                    model.delivered[group] = model.delivered[group].max(id);
                }
            }
            Act::Ack { group, mask } => {
                let chosen = model.pending[group].iter().enumerate();
                let chosen: Vec<_> = chosen
                    .filter(|(n, _)| mask >> (n % 64) & 1 == 1)
                    .map(|(_, id)| *id)
                    .collect();
                groups[group].ack(&chosen, &[]).await.unwrap();
                model.pending[group].retain(|id| !chosen.contains(id));
            }
            Act::Rewind { group, share } => {
                let place = model.entries.len() * usize::from(share) / 256;
                let Some(&id) = model.entries.get(place) else { continue };
                if id < model.delivered[group] {
                    store.move_group(&configs[group], id).await;
                    model.delivered[group] = id;
                    // What is read again becomes pending again; what was trimmed meanwhile cannot.
                    let there: BTreeSet<_> = still_there(store, &configs[0]).await.into_iter().collect();
                    model.entries.retain(|id| there.contains(id));
                }
            }
            Act::Trim => {
                groups[0].trim(0).await.unwrap();
            }
        }
        let there: BTreeSet<_> = still_there(store, &configs[0]).await.into_iter().collect();
        let missing: Vec<_> = model.needed().difference(&there).copied().collect();
        assert_eq!(missing, [], "{summary}");
    }
    settle(&groups, &mut model).await;
    let left = still_there(store, &configs[0]).await.len();
    assert!(left <= 7, "{left} left of what nobody needs; {summary}");
}

/// Both groups read and ack everything; then there is nothing to hold a trim.
async fn settle(groups: &[std::sync::Arc<dyn Stream>; 2], model: &mut Model) {
    for (group, stream) in groups.iter().enumerate() {
        let unread = ids(&read(&**stream, "a", 10_000).await);
        model.pending[group].extend(unread);
        let all: Vec<_> = model.pending[group].iter().copied().collect();
        stream.ack(&all, &[]).await.unwrap();
    }
    trim_all(&*groups[0]).await;
}
