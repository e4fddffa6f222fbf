//! What operators do: letters resolved, entries made pending again, and the record of it.

use orderstream::stream::{PAGE, REPLAY_CONSUMER, Range, ReadOrder, Stage};

use super::*;

pub async fn a_domain_keeps_the_first_number_of_its_shop(store: &dyn Store) {
    let stream = store.open(&stream_config());
    for (domain, number, noted) in [("a", "1", "1"), ("a", "2", "1"), ("b", "2", "2"), ("a", "1", "1")] {
        assert_eq!(
            stream.bind_shop(domain, number).await.unwrap(),
            noted,
            "{domain} {number}"
        );
    }
    assert_eq!(store.open(&stream_config()).bind_shop("a", "3").await.unwrap(), "1");
}

pub async fn resolved_letters_go_and_make_room(store: &dyn Store) {
    let config = StreamConfig {
        dead_letters_maxlen: 2,
        ..stream_config()
    };
    let stream = store.open(&config);
    let letter = |n| NewEntry {
        destination: Destination::DeadLetters,
        ..entry(n)
    };
    let outcomes = stream
        .writer()
        .try_append(&[letter(1), letter(2), letter(3)])
        .await
        .unwrap();
    assert_eq!(outcomes[2], Appended::Full);
    let ids = [accepted(&outcomes[0]), StreamId::new(1, 1)];
    assert_eq!(stream.remove(Destination::DeadLetters, &ids).await.unwrap(), 1);
    assert_eq!(
        stream.remove(Destination::DeadLetters, &ids).await.unwrap(),
        0,
        "a repeat is harmless"
    );
    assert_eq!(stream.report().await.unwrap().dead_letters, 1);
    let again = stream.writer().try_append(&[letter(3)]).await.unwrap();
    accepted(&again[0]);
    assert_eq!(stream.remove(Destination::DeadLetters, &[]).await.unwrap(), 0);
}

pub async fn old_letters_lose_their_bodies_and_nothing_else(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let letter = |n: u32| {
        let mut letter = NewEntry {
            destination: Destination::DeadLetters,
            ..entry(n)
        };
        if n.is_multiple_of(2) {
            letter.fields.push("raw", vec![b'x'; 1000]);
            letter.fields.push("raw_encoding", "zstd+base64");
        }
        letter
    };
    let append = async |numbers: std::ops::Range<u32>| {
        let letters = Vec::from_iter(numbers.map(letter));
        let outcomes = stream.writer().try_append(&letters).await.unwrap();
        Vec::from_iter(outcomes.iter().map(accepted))
    };
    assert_eq!(stream.drop_letter_bodies(StreamId::new(u64::MAX, 0)).await.unwrap(), 0);
    let old = append(0..300).await;
    assert_eq!(stream.remove(Destination::DeadLetters, &old[299..]).await.unwrap(), 1);
    tokio::time::sleep(Duration::from_millis(2)).await;
    let newest = append(300..301).await[0];
    let before = stream.report().await.unwrap();
    let letters = async || {
        let mut next = Some(Range::all(Destination::DeadLetters, ReadOrder::OldestFirst, PAGE));
        let mut found = Vec::new();
        while let Some(range) = next {
            let page = stream.range(range).await.unwrap();
            found.extend(page.entries);
            next = page.next;
        }
        found
    };
    let mut expected = letters().await;
    assert_eq!(expected.len(), 300);
    assert_eq!(stream.drop_letter_bodies(newest).await.unwrap(), 150);
    for letter in &mut expected[..299] {
        letter.fields.drop_body();
    }
    assert!(letters().await == expected, "other letters than before");
    assert!(expected[299].fields.has_body());
    assert_eq!(stream.drop_letter_bodies(newest).await.unwrap(), 0, "none is left");
    let after = stream.report().await.unwrap();
    assert_eq!(
        (after.dead_letters, after.dead_letters_added, after.lost.dead_letters),
        (before.dead_letters, before.dead_letters_added, 0)
    );
    // The ids go on.
    assert!(append(301..302).await[0] > newest);
    assert_eq!(stream.report().await.unwrap().dead_letters, 301);
}

/// Letters from `from` on, each with a body.
fn letters_with_bodies(from: u32, count: u32) -> Vec<NewEntry> {
    let letter = |n| {
        let mut letter = NewEntry {
            destination: Destination::DeadLetters,
            ..entry(n)
        };
        letter.fields.push("raw", "body");
        letter
    };
    (from..from + count).map(letter).collect()
}

/// Ids of all letters, oldest first, and whether each has a body.
async fn ids_and_bodies(stream: &dyn Stream) -> Vec<(StreamId, bool)> {
    let mut next = Some(Range::all(Destination::DeadLetters, ReadOrder::OldestFirst, PAGE));
    let mut found = Vec::new();
    while let Some(range) = next {
        let page = stream.range(range).await.unwrap();
        found.extend(page.entries.iter().map(|letter| (letter.id, letter.fields.has_body())));
        next = page.next;
    }
    found
}

pub async fn letters_that_come_while_bodies_are_taken_are_kept(store: &dyn Store) {
    const OLD: u32 = 1000;
    let stream = store.open(&stream_config());
    let mut writer = stream.writer();
    let old = writer.try_append(&letters_with_bodies(0, OLD)).await.unwrap();
    let mut expected = Vec::from_iter(old.iter().map(|outcome| (accepted(outcome), false)));
    let newest = expected[expected.len() - 1].0;
    let before = newest.successor().unwrap();
    let is_done = CancellationToken::new();
    let dropping = async {
        let dropped = stream.drop_letter_bodies(before).await;
        is_done.cancel();
        dropped
    };
    let appending = async {
        let mut came = Vec::new();
        for n in OLD.. {
            let outcomes = writer.try_append(&letters_with_bodies(n, 1)).await.unwrap();
            came.push((accepted(&outcomes[0]), true));
            if is_done.is_cancelled() {
                break;
            }
        }
        came
    };
    let (dropped, came) = tokio::join!(dropping, appending);
    assert_eq!(dropped.unwrap(), u64::from(OLD));
    assert!(came.len() > 1, "none came meanwhile");
    expected.extend(came);
    assert!(ids_and_bodies(&*stream).await == expected, "other letters than before");
    assert_eq!(stream.report().await.unwrap().lost.dead_letters, 0);
}

pub async fn letters_that_go_while_bodies_are_taken_stay_gone(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let old = stream.writer().try_append(&letters_with_bodies(0, 1000)).await.unwrap();
    let old = Vec::from_iter(old.iter().map(accepted));
    let all = StreamId::new(u64::MAX, 0);
    let is_done = CancellationToken::new();
    let dropping = async {
        // Given up where letters are removed meanwhile, unless they can be changed in place.
        let _given_up = stream.drop_letter_bodies(all).await;
        is_done.cancel();
    };
    let removing = async {
        let mut removed = 0;
        while removed < 500 && !is_done.is_cancelled() {
            let id = &old[removed..=removed];
            assert_eq!(stream.remove(Destination::DeadLetters, id).await.unwrap(), 1);
            removed += 1;
        }
        removed
    };
    let ((), removed) = tokio::join!(dropping, removing);
    assert!(removed > 0, "none went meanwhile");
    let ids = Vec::from_iter(ids_and_bodies(&*stream).await.into_iter().map(|(id, _)| id));
    assert!(ids == old[removed..], "other letters than those that were left");
    stream.drop_letter_bodies(all).await.unwrap();
    let expected = Vec::from_iter(old[removed..].iter().map(|id| (*id, false)));
    assert!(
        ids_and_bodies(&*stream).await == expected,
        "left letters, without bodies"
    );
}

pub async fn read_entries_become_pending_again_and_are_claimed_as_stale(store: &dyn Store) {
    let config = stream_config();
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..6).await;
    read(&*stream, "a", 4).await;
    stream.ack(&appended[..3], &[]).await.unwrap();
    store.lose(&config, appended[1]).await;
    assert_eq!(stream.make_pending("nobody's", &appended).await.unwrap(), None);
    let there = [&appended[..1], &appended[2..]].concat();
    assert_eq!(stream.settled("nobody's", &there).await.unwrap(), None);
    assert_eq!(stream.settled(&config.group, &there).await.unwrap(), Some(2));
    // The second is gone, the fourth is pending already, the last two were never read.
    let made = stream.make_pending(&config.group, &appended).await.unwrap();
    assert_eq!(made, Some(2));
    assert_eq!(stream.make_pending(&config.group, &appended).await.unwrap(), Some(0));
    assert_eq!(stream.settled(&config.group, &there).await.unwrap(), Some(0));
    let claim = Claim::Stale(Duration::from_secs(24 * 3600));
    let claimed = stream.claim("b", claim, START, 10).await.unwrap();
    assert_eq!(ids(&claimed.entries), [appended[0], appended[2]]);
    assert!(
        claimed.entries.iter().all(|one| one.deliveries == 1),
        "trusted as new ones"
    );
    assert_eq!(stream.ack(&appended, &[]).await.unwrap(), 3);
    assert_eq!(stream.report().await.unwrap().groups[0].pending, 0);
    assert_eq!(ids(&read(&*stream, "a", 10).await), appended[4..]);
}

pub async fn each_group_tells_how_far_it_came_with_an_entry(store: &dyn Store) {
    let config = stream_config();
    let other = StreamConfig {
        group: "another".to_owned(),
        ..config.clone()
    };
    let (stream, others) = (store.open(&config), store.open(&other));
    assert_eq!(stream.entry_states(START).await.unwrap(), []);
    stream.ensure_group().await.unwrap();
    others.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..2).await;
    read(&*stream, "a", 2).await;
    read(&*others, "x", 1).await;
    others.ack(&appended[..1], &[]).await.unwrap();
    let stages = async |id| {
        let fates = stream.entry_states(id).await.unwrap();
        let mut stages = Vec::from_iter(fates.into_iter().map(|fate| (fate.ours, fate.stage)));
        stages.sort_by_key(|(ours, _)| *ours);
        stages
    };
    let first = stages(appended[0]).await;
    assert_eq!(first[0], (false, Stage::Settled));
    match &first[1] {
        (
            true,
            Stage::Pending {
                consumer, deliveries, ..
            },
        ) => assert_eq!((consumer.as_str(), *deliveries), ("a", 1)),
        other => panic!("{other:?}"),
    }
    assert_eq!(stages(appended[1]).await[0], (false, Stage::Unread));
    stream.ack(&appended, &[]).await.unwrap();
    stream.make_pending(&config.group, &appended[..1]).await.unwrap();
    match &stages(appended[0]).await[1].1 {
        Stage::Pending { consumer, idle, .. } => {
            assert_eq!(consumer, REPLAY_CONSUMER);
            assert!(*idle > Duration::from_secs(24 * 3600));
        }
        other => panic!("{other:?}"),
    }
}

pub async fn a_pause_is_of_one_group_and_outlives_its_process(store: &dyn Store) {
    let config = stream_config();
    let stream = store.open(&config);
    assert_eq!(stream.paused_since().await.unwrap(), None);
    stream.set_pause(None).await.unwrap();
    let first = "2026-01-31T09:00:00Z";
    stream.set_pause(Some(first)).await.unwrap();
    stream.set_pause(Some("2026-01-31T10:00:00Z")).await.unwrap();
    assert_eq!(
        stream.paused_since().await.unwrap().as_deref(),
        Some(first),
        "the first stands"
    );
    let mut other = config.clone();
    "another".clone_into(&mut other.group);
    assert_eq!(store.open(&other).paused_since().await.unwrap(), None);
    let again = store.open(&config);
    assert_eq!(again.paused_since().await.unwrap().as_deref(), Some(first));
    again.set_pause(None).await.unwrap();
    assert_eq!(stream.paused_since().await.unwrap(), None);
}

pub async fn a_day_of_minutes_is_kept(store: &dyn Store) {
    let stream = store.open(&stream_config());
    assert_eq!(stream.minutes().await.unwrap(), Vec::<String>::new());
    for (minute, record) in [
        (30_000_000, "first"),
        (30_000_001, "second"),
        (30_000_001, "again"),
        (30_001_440, "later"),
    ] {
        stream.keep_minute(minute, record).await.unwrap();
    }
    let mut minutes = store.open(&stream_config()).minutes().await.unwrap();
    minutes.sort();
    assert_eq!(minutes, ["again", "later"], "a day later takes the place");
}

pub async fn notes_come_back_newest_first(store: &dyn Store) {
    let stream = store.open(&stream_config());
    assert_eq!(stream.notes(10).await.unwrap(), []);
    for n in 0..3 {
        stream.note(&entry(n).fields).await.unwrap();
    }
    let notes = stream.notes(2).await.unwrap();
    let fields = Vec::from_iter(notes.iter().map(|note| note.fields.clone()));
    assert_eq!(fields, [entry(2).fields, entry(1).fields]);
    assert!(notes[0].id > notes[1].id);
    assert_eq!(stream.notes(10 * PAGE).await.unwrap().len(), 3);
    assert_eq!(stream.report().await.unwrap().length, 0, "no entry of the stream");
}
