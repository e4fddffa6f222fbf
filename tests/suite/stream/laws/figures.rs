//! What a stream tells about itself.

use super::*;
use crate::harness::eventually;

pub async fn the_report_tells_lag_pending_and_ages(store: &dyn Store) {
    let config = stream_config();
    let stream = store.open(&config);
    let empty = stream.report().await.unwrap();
    let caps = u64::from(stream.partitions()) * config.maxlen;
    assert_eq!((empty.length, empty.maxlen, empty.last_id), (0, caps, None));
    assert!(empty.groups.is_empty() && empty.consumers.is_empty());

    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..10).await;
    read(&*stream, "a", 4).await;
    read(&*stream, "b", 2).await;
    stream.ack(&appended[..1], &[]).await.unwrap();
    let report = stream.report().await.unwrap();
    assert_eq!((report.length, report.last_id), (10, Some(appended[9])));
    let group = &report.groups[0];
    assert!(group.ours);
    assert_eq!(
        (group.name.as_str(), group.pending, group.lag),
        ("pipeline_workers", 5, Some(4))
    );
    assert_eq!((group.last_delivered, group.needs_from), (appended[5], appended[1]));
    let consumers: Vec<_> = report
        .consumers
        .iter()
        .map(|one| (one.name.as_str(), one.pending))
        .collect();
    assert_eq!(consumers, [("a", 3), ("b", 2)]);

    let long = Duration::from_millis(30);
    eventually("the oldest entry grows old", Duration::from_secs(10), async || {
        let report = stream.report().await.unwrap();
        (report.oldest_pending? > long && report.oldest_backlog? > long).then_some(())
    })
    .await;
    stream.ack(&appended[..6], &[]).await.unwrap();
    let report = stream.report().await.unwrap();
    assert_eq!(report.oldest_pending, None);
    assert!(report.oldest_backlog.is_some(), "four are not read yet");
    stream.ack(&ids(&read(&*stream, "a", 10).await), &[]).await.unwrap();
    assert_eq!(stream.report().await.unwrap().oldest_backlog, None);
}

pub async fn dead_letters_are_counted_as_they_come_and_go(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let told = async || {
        let report = stream.report().await.unwrap();
        (
            report.dead_letters,
            report.dead_letters_added,
            report.oldest_dead_letter,
        )
    };
    assert_eq!(told().await.2, None);
    let letters = [1, 2, 3].map(|n| NewEntry {
        destination: Destination::DeadLetters,
        ..entry(n)
    });
    let outcomes = stream.writer().try_append(&letters).await.unwrap();
    let ids: Vec<_> = outcomes.iter().map(accepted).collect();
    assert_eq!((told().await.0, told().await.1), (3, Some(3)));
    let oldest = async |limit: Duration| told().await.2.filter(|age| *age >= limit);
    let grown = Duration::from_millis(200);
    eventually("the oldest grows old", Duration::from_secs(10), async || {
        oldest(grown).await
    })
    .await;
    assert_eq!(stream.remove(Destination::DeadLetters, &ids[..2]).await.unwrap(), 2);
    assert_eq!(
        (told().await.0, told().await.1),
        (1, Some(3)),
        "one that is resolved was there"
    );
    assert_eq!(stream.remove(Destination::DeadLetters, &ids[2..]).await.unwrap(), 1);
    assert_eq!(told().await, (0, Some(3), None));
}

pub async fn a_lag_is_known_or_honestly_unknown(store: &dyn Store) {
    let config = stream_config();
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..50).await;
    read(&*stream, "a", 10).await;
    // A hole among the unread is where a store may lose count.
    store.lose(&config, appended[30]).await;
    assert_eq!(stream.report().await.unwrap().groups[0].lag, Some(39));
    append(&*stream, 50..2000).await;
    let lag = stream.report().await.unwrap().groups[0].lag;
    assert!(lag.is_none_or(|lag| lag == 1989), "{lag:?}");
}

pub async fn a_range_shows_any_part_from_either_end(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let all = |log, order| Range::all(log, order, 7);
    let nothing = stream
        .range(all(Destination::Stream, ReadOrder::OldestFirst))
        .await
        .unwrap();
    assert_eq!((nothing.entries, nothing.next), (Vec::new(), None));
    let mut appended = append(&*stream, 0..20).await;
    let since = eventually("a new millisecond", Duration::from_secs(10), async || {
        let last = append(&*stream, [20 + u32::try_from(appended.len()).unwrap()]).await[0];
        appended.push(last);
        (last.ms > appended[0].ms + 3).then_some(last)
    })
    .await;
    let letters: Vec<_> = (0..3)
        .map(|n| NewEntry {
            destination: Destination::DeadLetters,
            ..entry(n)
        })
        .collect();
    stream.writer().try_append(&letters).await.unwrap();

    let ids = async |range: Range| {
        let (mut ids, mut next) = (Vec::new(), Some(range));
        while let Some(range) = next {
            let page = stream.range(range).await.unwrap();
            assert!(page.entries.len() <= 7);
            ids.extend(page.entries.iter().map(|one| one.id));
            next = page.next;
        }
        ids
    };
    let oldest_first = all(Destination::Stream, ReadOrder::OldestFirst);
    let newest_first = all(Destination::Stream, ReadOrder::NewestFirst);
    assert_eq!(ids(oldest_first).await, appended);
    let mut backwards = appended.clone();
    backwards.reverse();
    assert_eq!(ids(newest_first).await, backwards);

    // By id, both ends included; by time, likewise.
    let part = Range {
        from: appended[2],
        to: appended[11],
        ..oldest_first
    };
    assert_eq!(ids(part).await, appended[2..12]);
    assert_eq!(
        ids(Range {
            from: appended[12],
            ..part
        })
        .await,
        []
    );
    assert_eq!(ids(Range { to: part.from, ..part }).await, appended[2..3]);
    let recent: Vec<_> = backwards.iter().copied().filter(|id| id.ms >= since.ms).collect();
    assert_eq!(ids(newest_first.between(since.ms, u64::MAX)).await, recent);
    let first: Vec<_> = appended.iter().copied().filter(|id| id.ms <= appended[0].ms).collect();
    assert_eq!(ids(oldest_first.between(0, appended[0].ms)).await, first);

    let letters = stream
        .range(all(Destination::DeadLetters, ReadOrder::OldestFirst))
        .await
        .unwrap();
    let fields: Vec<_> = letters.entries.into_iter().map(|one| one.fields).collect();
    assert_eq!(fields, [0, 1, 2].map(|n| entry(n).fields));
    assert_eq!(letters.next, None);
    assert_eq!(stream.report().await.unwrap().groups, [], "looking makes no group");
}

pub async fn the_server_introduces_itself(store: &dyn Store) {
    let stream = store.open(&stream_config());
    let server = stream.inspect().await.unwrap();
    assert!(!server.product.is_empty());
    assert!(!server.address.is_empty());
}
