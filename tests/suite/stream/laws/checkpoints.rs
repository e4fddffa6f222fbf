//! Appends with a checkpoint.

use orderstream::stream::{Checkpoint, CheckpointedAppend};

use super::*;

fn dead(n: u32) -> NewEntry {
    NewEntry {
        destination: Destination::DeadLetters,
        ..entry(n)
    }
}

async fn lengths(stream: &dyn Stream) -> (u64, u64) {
    let report = stream.report().await.unwrap();
    (report.length, report.dead_letters)
}

pub async fn entries_and_record_are_stored_together(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let mut writer = stream.checkpointed("shopdb");
    assert_eq!(writer.read().await.unwrap(), Checkpoint::default());
    let stored = writer
        .append(&[entry(1), dead(2), entry(3)], 0, "first", 100)
        .await
        .unwrap();
    assert_eq!(stored, CheckpointedAppend::Stored);
    assert_eq!(lengths(&*stream).await, (2, 1));
    // Who does not know the newest record stores nothing, though its entries are new.
    let mut other = stream.checkpointed("shopdb");
    for expected in [0, 2] {
        let moved = other.append(&[entry(4)], expected, "second", 100).await.unwrap();
        assert_eq!(moved, CheckpointedAppend::Moved);
    }
    let found = other.read().await.unwrap();
    assert_eq!((found.version, &*found.record), (1, "first"));
    assert_eq!(
        other.append(&[], 1, "second", 100).await.unwrap(),
        CheckpointedAppend::Stored
    );
    assert_eq!(
        writer.append(&[entry(5)], 1, "third", 100).await.unwrap(),
        CheckpointedAppend::Moved
    );
    assert_eq!(lengths(&*stream).await, (2, 1));
    // Sources are apart, and an append is not deduped.
    let mut apart = stream.checkpointed("elsewhere");
    assert_eq!(
        apart.append(&[entry(1)], 0, "", 100).await.unwrap(),
        CheckpointedAppend::Stored
    );
    assert_eq!(lengths(&*stream).await, (3, 1));
}

pub async fn a_request_stays_until_the_checkpoint_is_removed(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let mut writer = stream.checkpointed("shopdb");
    writer.request("again").await.unwrap();
    assert_eq!(
        writer.append(&[], 0, "record", 100).await.unwrap(),
        CheckpointedAppend::Stored
    );
    let found = writer.read().await.unwrap();
    assert_eq!((&*found.request, &*found.record), ("again", "record"));
    writer.remove().await.unwrap();
    assert_eq!(writer.read().await.unwrap(), Checkpoint::default());
}

pub async fn a_checkpointed_append_leaves_room_to_others(store: &dyn Store) {
    let config = StreamConfig {
        maxlen: 10,
        dead_letters_maxlen: 2,
        ..stream_config()
    };
    let stream = store.open(&config);
    let mut writer = stream.checkpointed("shopdb");
    let entries = Vec::from_iter((0..6).map(entry));
    assert_eq!(
        writer.append(&entries[..5], 0, "a", 50).await.unwrap(),
        CheckpointedAppend::Stored
    );
    let full = CheckpointedAppend::Full(Destination::Stream);
    assert_eq!(writer.append(&entries[5..], 1, "b", 50).await.unwrap(), full);
    assert_eq!(writer.read().await.unwrap().record, "a");
    assert_eq!(writer.append(&entries[..5], 1, "b", 90).await.unwrap(), full);
    assert_eq!(
        writer.append(&entries[..4], 1, "b", 90).await.unwrap(),
        CheckpointedAppend::Stored
    );
    let dead = [dead(1), dead(2), dead(3)];
    let refused = writer.append(&dead, 2, "c", 100).await.unwrap();
    assert_eq!(refused, CheckpointedAppend::Full(Destination::DeadLetters));
    assert_eq!(lengths(&*stream).await, (9, 0));
}
