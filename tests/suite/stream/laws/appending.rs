//! Append and read.

use std::collections::HashSet;
use std::time::Instant;

use super::*;

pub async fn what_is_appended_is_read_in_order_and_acked(store: &dyn Store) {
    let stream = store.open(&stream_config());
    assert!(stream.ensure_group().await.unwrap(), "had to be created");
    assert!(!stream.ensure_group().await.unwrap(), "is there already");
    let appended = append(&*stream, 0..600).await;
    assert!(appended.is_sorted(), "ids follow the order of a flush");

    let delivered = read(&*stream, "a", 500).await;
    assert_eq!(ids(&delivered), appended[..500]);
    assert_eq!(delivered[7].entry.fields, entry(7).fields);
    assert_eq!(delivered[7].deliveries, 1);

    assert_eq!(stream.ack(&appended[..500], &[]).await.unwrap(), 500);
    assert_eq!(stream.ack(&appended[..500], &[]).await.unwrap(), 0, "safe to repeat");
    assert_eq!(ids(&read(&*stream, "a", 500).await), appended[500..]);
}

pub async fn a_duplicate_answers_with_the_first_id(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let first = append(&*stream, [1]).await[0];
    let other_body = NewEntry {
        digest: [9; 16],
        ..entry(1)
    };
    let quarantined = NewEntry {
        destination: Destination::DeadLetters,
        ..entry(1)
    };
    // In one flush: what it holds twice is deduped too, and the dead letters have keys of their own.
    let flush = [
        entry(1),
        entry(2),
        entry(2),
        other_body,
        quarantined.clone(),
        quarantined,
    ];
    let outcomes = stream.writer().try_append(&flush).await.unwrap();
    let second = accepted(&outcomes[1]);
    let letter = accepted(&outcomes[4]);
    assert_eq!(outcomes[0], Appended::Duplicate(first));
    assert_eq!(outcomes[2], Appended::Duplicate(second));
    assert_eq!(outcomes[3], Appended::Conflict(first));
    assert_eq!(outcomes[5], Appended::Duplicate(letter));
    let report = stream.report().await.unwrap();
    assert_eq!((report.length, report.dead_letters), (2, 1));
}

pub async fn concurrent_duplicates_become_one_entry(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let flush: Vec<_> = (0..300).map(entry).collect();
    let (mut a, mut b, mut c) = (stream.writer(), stream.writer(), stream.writer());
    let (a, b, c) = tokio::join!(a.try_append(&flush), b.try_append(&flush), c.try_append(&flush));
    let mut accepted = HashSet::new();
    for ((a, b), c) in a.unwrap().into_iter().zip(b.unwrap()).zip(c.unwrap()) {
        let mut stored = HashSet::new();
        for outcome in [a, b, c] {
            match outcome {
                Appended::Accepted(id) => {
                    assert!(accepted.insert(id));
                    stored.insert(id);
                }
                Appended::Duplicate(id) => {
                    stored.insert(id);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(stored.len(), 1, "all three name the same entry");
    }
    assert_eq!(accepted.len(), 300);
    assert_eq!(stream.report().await.unwrap().length, 300);
}

pub async fn without_dedupe_everything_is_appended(store: &dyn Store) {
    let stream = store.open(&StreamConfig {
        dedupe_window: None,
        ..stream_config()
    });
    let mut writer = stream.writer();
    for _ in 0..3 {
        let outcomes = writer.try_append(&[entry(1), entry(1)]).await.unwrap();
        assert!(accepted(&outcomes[0]) < accepted(&outcomes[1]));
    }
    assert_eq!(stream.report().await.unwrap().length, 6);
}

pub async fn at_the_cap_an_append_is_refused_and_nothing_evicted(store: &dyn Store) {
    for dedupe_window in [stream_config().dedupe_window, None] {
        store.wipe().await;
        let config = StreamConfig {
            maxlen: 25,
            dead_letters_maxlen: 2,
            dedupe_window,
            ..stream_config()
        };
        let stream = store.open(&config);
        let mut writer = stream.writer();
        stream.confirm_writable(0).await.unwrap();
        let mut stored = Vec::new();
        for flush in 0..5 {
            let entries: Vec<_> = (flush * 10..flush * 10 + 10).map(entry).collect();
            let outcomes = writer.try_append(&entries).await.unwrap();
            let full = outcomes.iter().filter(|outcome| **outcome == Appended::Full).count();
            assert_eq!(full, [0, 0, 5, 10, 10][flush as usize]);
            stored.extend(outcomes.iter().filter(|one| **one != Appended::Full).map(accepted));
        }
        assert_eq!(still_there(store, &config).await, stored);
        let error = stream.confirm_writable(0).await.unwrap_err();
        assert!(matches!(error, orderstream::stream::StreamError::Full(25)), "{error}");

        let letters: Vec<_> = (0..3)
            .map(|n| NewEntry {
                destination: Destination::DeadLetters,
                ..entry(n)
            })
            .collect();
        let outcomes = writer.try_append(&letters).await.unwrap();
        assert_eq!(outcomes[2], Appended::Full, "the dead letters have a cap of their own");
        assert_eq!(stream.report().await.unwrap().dead_letters, 2);
    }
}

pub async fn an_empty_flush_is_fine(store: &dyn Store) {
    let stream = store.open(&stream_config());
    assert_eq!(stream.writer().try_append(&[]).await.unwrap(), []);
    assert_eq!(stream.ack(&[], &[]).await.unwrap(), 0);
    assert_eq!(stream.refresh("a", &[]).await.unwrap(), Refreshed::default());
}

pub async fn concurrent_readers_get_disjoint_entries(store: &dyn Store) {
    let stream = store.open(&stream_config());
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..400).await;
    let drain = async |consumer: &str| {
        let mut mine = Vec::new();
        loop {
            match ids(&read(&*stream, consumer, 7).await) {
                batch if batch.is_empty() => return mine,
                batch => mine.extend(batch),
            }
        }
    };
    let (a, b, c) = tokio::join!(drain("a"), drain("b"), drain("c"));
    let mut all = [a, b, c].concat();
    all.sort();
    assert_eq!(all, appended, "each exactly once");
}

pub async fn a_cancelled_read_returns_soon_and_loses_nothing(store: &dyn Store) {
    let stream = store.open(&stream_config());
    stream.ensure_group().await.unwrap();
    let long = Duration::from_secs(300);
    let mut reader = stream.reader("a", 0);
    let mut got = Vec::new();
    let mut appended = Vec::new();
    let began = Instant::now();
    // The cancel meets the read at every stage: before it was sent, on the way, while it waits, while it is answered.
    for n in 0..40 {
        let cancel = CancellationToken::new();
        let interruption = async {
            for _ in 0..n % 8 {
                tokio::task::yield_now().await;
            }
            if n % 3 == 0 {
                appended.extend(append(&*stream, [n]).await);
            }
            if n % 5 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        };
        let (delivered, ()) = tokio::join!(reader.read(10, long, &cancel), interruption);
        got.extend(ids(&delivered.unwrap()));
    }
    got.extend(ids(&read(&*stream, "a", 100).await));
    assert_eq!(got, appended);
    assert!(began.elapsed() < long, "no read waited for its whole time");
    let report = stream.report().await.unwrap();
    assert_eq!(
        report.groups[0].pending,
        got.len() as u64,
        "nothing was delivered to nobody"
    );
}

pub async fn a_waiting_read_wakes_for_an_append(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let mut reader = stream.reader("a", 0);
    let never = CancellationToken::new();
    // The group is missing: the reader makes it, and goes on from 0.
    let long = Duration::from_secs(300);
    assert_eq!(reader.read(10, long, &never).await.unwrap(), []);
    let (delivered, appended) = tokio::join!(reader.read(10, long, &never), append(&*stream, [1]));
    assert_eq!(ids(&delivered.unwrap()), appended);
}

pub async fn a_store_that_comes_back_empty_is_used_again(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let never = CancellationToken::new();
    let mut reader = stream.reader("a", 0);
    let mut writer = stream.writer();
    stream.ensure_group().await.unwrap();
    append(&*stream, 0..10).await;
    assert_eq!(reader.read(5, Duration::ZERO, &never).await.unwrap().len(), 5);
    let lost = append(&*stream, [10]).await;

    store.wipe().await;
    assert!(
        stream
            .claim("a", Claim::Own(&[]), START, 10)
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    store.wipe().await;
    assert!(
        stream
            .claim("a", Claim::Stale(Duration::ZERO), START, 10)
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    store.wipe().await;
    let refreshed = stream.refresh("a", &lost).await.unwrap();
    assert_eq!(refreshed.held, lost, "no other consumer can have it");
    let refreshed = stream.refresh("a", &lost).await.unwrap();
    assert_eq!(refreshed.held, lost, "it may be the last copy");
    store.wipe().await;
    assert_eq!(stream.ack(&lost, &lost).await.unwrap(), 0);
    assert_eq!(stream.trim(0).await.unwrap(), Trimmed::default());
    assert_eq!(
        stream.remove_silent_consumers(Duration::ZERO).await.unwrap(),
        Vec::<String>::new()
    );
    let report = stream.report().await.unwrap();
    assert_eq!(
        (report.length, report.groups, report.oldest_backlog),
        (0, Vec::new(), None)
    );
    assert_eq!(reader.read(5, Duration::ZERO, &never).await.unwrap(), []);
    let outcomes = writer.try_append(&[entry(1)]).await.unwrap();
    let delivered = reader.read(5, Duration::ZERO, &never).await.unwrap();
    assert_eq!(ids(&delivered), [accepted(&outcomes[0])]);

    // While a read waits.
    let long = Duration::from_secs(300);
    let wiped = async {
        store.wipe().await;
        append(&*stream, [2]).await
    };
    let (delivered, appended) = tokio::join!(reader.read(5, long, &never), wiped);
    let mut delivered = delivered.unwrap();
    if delivered.is_empty() {
        delivered = reader.read(5, long, &never).await.unwrap();
    }
    assert_eq!(ids(&delivered), appended);
}
