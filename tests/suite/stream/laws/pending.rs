//! Claim, refresh, attempts, dead letters.

use super::*;
use crate::harness::eventually;

pub async fn own_pending_entries_are_claimed_page_by_page(store: &dyn Store) {
    let stream = store.open(&stream_config());
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..25).await;
    read(&*stream, "a", 20).await;
    read(&*stream, "b", 5).await;
    let first = stream.claim("a", Claim::Own(&[]), START, 10).await.unwrap();
    assert_eq!(ids(&first.entries), appended[..10]);
    assert_eq!(first.entries[3].entry.fields, entry(3).fields);
    assert_eq!(first.entries[3].deliveries, 2, "read, then claimed");
    let second = stream
        .claim("a", Claim::Own(&[]), first.next.unwrap(), 15)
        .await
        .unwrap();
    assert_eq!((ids(&second.entries), second.next), (appended[10..20].to_vec(), None));
    let nobody = stream.claim("nobody", Claim::Own(&[]), START, 10).await.unwrap();
    assert!(nobody.entries.is_empty() && nobody.next.is_none());
}

pub async fn a_claim_of_ones_own_leaves_alone_what_is_in_hand(store: &dyn Store) {
    let config = stream_config();
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..6).await;
    read(&*stream, "a", 6).await;
    store.lose(&config, appended[4]).await;
    let in_hand = [appended[0], appended[2], appended[4]];
    let first = stream.claim("a", Claim::Own(&in_hand), START, 3).await.unwrap();
    assert_eq!(ids(&first.entries), [appended[1]], "pages are of what is pending");
    let second = stream.claim("a", Claim::Own(&in_hand), first.next.unwrap(), 9).await;
    let second = second.unwrap();
    assert_eq!(ids(&second.entries), [appended[3], appended[5]]);
    assert_eq!(second.deleted, [], "what is lost in hand is the refresh's to tell");
    let all = stream.claim("a", Claim::Own(&[]), START, 9).await.unwrap();
    let deliveries = Vec::from_iter(all.entries.iter().map(|one| one.deliveries));
    assert_eq!(deliveries, [2, 3, 2, 3, 3], "in hand counts as handed out once");
}

pub async fn stale_entries_go_to_one_claimer(store: &dyn Store) {
    let stream = store.open(&stream_config());
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..200).await;
    read(&*stream, "dead", 200).await;
    let hour = Claim::Stale(Duration::from_secs(3600));
    assert!(
        stream.claim("a", hour, START, 100).await.unwrap().entries.is_empty(),
        "not idle that long"
    );

    let idle = Duration::from_millis(50);
    eventually("all are idle", Duration::from_secs(10), async || {
        let report = stream.report().await.unwrap();
        (report.consumers[0].idle > idle * 2).then_some(())
    })
    .await;
    // Claimed entries are fresh again, so that the race has one winner an entry.
    let hour = Duration::from_secs(3600);
    let sweep = async |consumer: &str| {
        let (mut mine, mut next) = (Vec::new(), Some(START));
        while let Some(start) = next {
            let page = stream.claim(consumer, Claim::Stale(idle), start, 9).await.unwrap();
            mine.extend(ids(&page.entries));
            next = page.next;
        }
        mine
    };
    let (a, b) = tokio::join!(sweep("a"), sweep("b"));
    let mut all: Vec<_> = [a, b].concat();
    all.sort();
    all.dedup();
    assert_eq!(all, appended);
    assert!(
        stream
            .claim("dead", Claim::Own(&[]), START, 10)
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    assert!(
        stream
            .claim("c", Claim::Stale(hour), START, 10)
            .await
            .unwrap()
            .entries
            .is_empty()
    );
}

pub async fn a_stale_claim_leaves_out_the_callers_own(store: &dyn Store) {
    let stream = store.open(&stream_config());
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..10).await;
    read(&*stream, "a", 5).await;
    read(&*stream, "b", 5).await;
    let any = Claim::Stale(Duration::ZERO);
    let first = stream.claim("a", any, START, 5).await.unwrap();
    assert_eq!(ids(&first.entries), [], "a page of one's own");
    let second = stream.claim("a", any, first.next.unwrap(), 10).await.unwrap();
    assert_eq!(ids(&second.entries), appended[5..]);
}

pub async fn pending_entries_that_are_gone_are_reported_once(store: &dyn Store) {
    let config = stream_config();
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..6).await;
    read(&*stream, "a", 4).await;
    read(&*stream, "b", 2).await;
    for lost in [0, 2, 5] {
        store.lose(&config, appended[lost]).await;
    }
    let own = stream.claim("a", Claim::Own(&[]), START, 10).await.unwrap();
    assert_eq!(ids(&own.entries), [appended[1], appended[3]]);
    assert_eq!(own.deleted, [appended[0], appended[2]]);
    let stale = stream
        .claim("a", Claim::Stale(Duration::ZERO), START, 10)
        .await
        .unwrap();
    assert_eq!(
        (ids(&stale.entries), stale.deleted),
        (vec![appended[4]], vec![appended[5]])
    );
    let again = stream.claim("a", Claim::Own(&[]), START, 10).await.unwrap();
    assert_eq!((again.entries.len(), again.deleted.len()), (3, 0));
}

pub async fn only_the_owner_refreshes(store: &dyn Store) {
    let stream = store.open(&stream_config());
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..4).await;
    read(&*stream, "a", 4).await;
    stream
        .claim("b", Claim::Stale(Duration::ZERO), appended[2], 10)
        .await
        .unwrap();
    stream.ack(&appended[..1], &[]).await.unwrap();
    let asked = [appended[0], appended[1], appended[2], appended[3]];
    let held = async |consumer: &str| {
        let refreshed = stream.refresh(consumer, &asked).await.unwrap();
        assert_eq!(refreshed.gone, []);
        refreshed.held
    };
    assert_eq!(held("a").await, [appended[1]]);
    assert_eq!(held("b").await, appended[2..]);
    assert_eq!(held("c").await, []);
    // A refresh is no delivery.
    let claimed = stream.claim("a", Claim::Own(&[]), START, 10).await.unwrap();
    assert_eq!(
        (ids(&claimed.entries), claimed.entries[0].deliveries),
        (vec![appended[1]], 2)
    );
}

pub async fn what_is_gone_is_told_once_and_stays_in_hand(store: &dyn Store) {
    let config = stream_config();
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..4).await;
    read(&*stream, "a", 3).await;
    read(&*stream, "b", 1).await;
    for lost in [1, 3] {
        store.lose(&config, appended[lost]).await;
    }
    let told = stream.refresh("a", &appended).await.unwrap();
    assert_eq!(told.held, [appended[0], appended[2]]);
    assert_eq!(told.gone, [appended[1]], "b's loss is b's to tell");
    let own = stream.claim("a", Claim::Own(&[]), START, 9).await.unwrap();
    assert_eq!(own.deleted, [], "no longer pending");
    let mut again = stream.refresh("a", &appended).await.unwrap();
    again.held.sort();
    assert_eq!((again.held, again.gone), (appended[..3].to_vec(), Vec::new()));

    // Destroyed and made again, the group hands out everything anew: what is in the stream need not stay in hand.
    store.drop_group(&config).await;
    let first = stream.refresh("a", &appended[..3]).await.unwrap();
    assert_eq!((first.held, first.gone), (appended[..3].to_vec(), Vec::new()));
    let then = stream.refresh("a", &appended[..3]).await.unwrap();
    assert_eq!((then.held, then.gone), (vec![appended[1]], Vec::new()));
}

pub async fn attempts_stay_on_record_until_the_ack(store: &dyn Store) {
    let stream = store.open(&stream_config());
    stream.ensure_group().await.unwrap();
    let id = append(&*stream, [1]).await[0];
    read(&*stream, "a", 1).await;
    let record = async |step| {
        let attempts = stream.record(id, step).await.unwrap();
        (attempts.failed, attempts.unfinished)
    };
    assert_eq!(record(AttemptStep::Begin(1)).await, (0, 1));
    assert_eq!(record(AttemptStep::Begin(2)).await, (0, 2));
    assert_eq!(
        record(AttemptStep::Begin(2)).await,
        (0, 2),
        "written again, counted once"
    );
    assert_eq!(
        record(AttemptStep::Begin(1)).await,
        (0, 2),
        "what others counted stays counted"
    );
    assert_eq!(record(AttemptStep::Failed(1)).await, (1, 0));
    assert_eq!(
        record(AttemptStep::Failed(1)).await,
        (1, 0),
        "written again, counted once"
    );
    assert_eq!(record(AttemptStep::Begin(1)).await, (1, 1));
    assert_eq!(record(AttemptStep::Spared).await, (1, 0));
    assert_eq!(record(AttemptStep::Begin(1)).await, (1, 1));
    // Another worker, maybe another process, finds it.
    let claimed = stream.claim("b", Claim::Stale(Duration::ZERO), START, 1).await.unwrap();
    let found = claimed.entries[0].attempts;
    assert_eq!((found.failed, found.unfinished), (1, 1));
    stream.ack(&[id], &[id]).await.unwrap();
    assert_eq!(record(AttemptStep::Begin(1)).await, (0, 1), "the ack ended the record");
}

pub async fn a_dead_letter_is_written_then_its_entry_acked(store: &dyn Store) {
    let config = StreamConfig {
        dead_letters_maxlen: 2,
        ..stream_config()
    };
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    append(&*stream, 0..4).await;
    let delivered = read(&*stream, "a", 4).await;
    let letter = |n: usize| DeadLetter {
        entry: delivered[n].entry.clone(),
        error: "no such currency".to_owned(),
        attempts: 3,
        consumer: "a".to_owned(),
    };
    stream
        .record(delivered[0].entry.id, AttemptStep::Failed(1))
        .await
        .unwrap();
    assert!(stream.dead_letter(&letter(0)).await.unwrap());
    assert!(stream.dead_letter(&letter(0)).await.unwrap(), "safe to repeat");
    assert_eq!(stream.report().await.unwrap().dead_letters, 1);
    let record = stream.record(delivered[0].entry.id, AttemptStep::Spared).await.unwrap();
    assert_eq!(record.failed, 0, "its record is gone");

    assert!(stream.dead_letter(&letter(1)).await.unwrap());
    assert!(!stream.dead_letter(&letter(2)).await.unwrap(), "at the cap");
    let report = stream.report().await.unwrap();
    assert_eq!(
        (report.dead_letters, report.groups[0].pending),
        (2, 2),
        "what found no room stays pending"
    );

    // Settled by somebody else meanwhile: no letter is due.
    stream.ack(&[delivered[3].entry.id], &[]).await.unwrap();
    assert!(stream.dead_letter(&letter(3)).await.unwrap());
    assert_eq!(stream.report().await.unwrap().dead_letters, 2);

    let letters = Range::all(Destination::DeadLetters, ReadOrder::OldestFirst, 10);
    let found = stream.range(letters).await.unwrap().entries;
    let text = |name: &str| String::from_utf8(found[0].fields.get(name).unwrap().to_vec()).unwrap();
    assert_eq!(found[0].fields.0[..4], entry(0).fields.0[..]);
    assert_eq!(text("original_stream"), "orders_stream");
    assert_eq!(text("original_id"), delivered[0].entry.id.to_string());
    assert_eq!(text("error"), "no such currency");
    assert_eq!(text("attempts"), "3");
    assert_eq!(text("consumer"), "a");
    let failed_at = text("failed_at");
    let parsed = time::OffsetDateTime::parse(&failed_at, &time::format_description::well_known::Rfc3339);
    assert!(parsed.is_ok() && failed_at.ends_with('Z'), "{failed_at}");

    // An operator removes the letter and replays its entry, which fails again.
    let all = Range::all(Destination::DeadLetters, ReadOrder::OldestFirst, 1);
    let first = stream.range(all).await.unwrap().entries[0].id;
    stream.remove(Destination::DeadLetters, &[first]).await.unwrap();
    let again = [delivered[0].entry.id];
    assert_eq!(stream.make_pending(&config.group, &again).await.unwrap(), Some(1));
    for _ in 0..2 {
        assert!(stream.dead_letter(&letter(0)).await.unwrap());
        assert_eq!(stream.report().await.unwrap().dead_letters, 2);
    }

    // Lost by the store: the letter is all that is left of it.
    store.wipe().await;
    assert!(stream.dead_letter(&letter(0)).await.unwrap());
    assert_eq!(stream.report().await.unwrap().dead_letters, 1);
}

pub async fn records_outlive_their_group_and_letters_wait_for_it(store: &dyn Store) {
    let config = stream_config();
    let stream = store.open(&config);
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..3).await;
    let delivered = read(&*stream, "a", 3).await;
    let letter = |n: usize| DeadLetter {
        entry: delivered[n].entry.clone(),
        error: "no such currency".to_owned(),
        attempts: 3,
        consumer: "a".to_owned(),
    };
    store.lose(&config, appended[2]).await;
    store.drop_group(&config).await;
    let recorded = stream.record(appended[0], AttemptStep::Failed(2)).await.unwrap();
    assert_eq!(recorded.failed, 2);
    // What is in the stream is handed out again by the group that is going to be made.
    assert!(stream.dead_letter(&letter(0)).await.unwrap());
    assert!(stream.dead_letter(&letter(2)).await.unwrap());
    assert!(stream.ensure_group().await.unwrap(), "neither of them makes it");
    assert_eq!(stream.report().await.unwrap().dead_letters, 1, "of what is gone");
    assert_eq!(ids(&read(&*stream, "b", 9).await), appended[..2]);
    let claimed = stream.claim("b", Claim::Own(&[]), START, 9).await.unwrap();
    assert_eq!(claimed.entries[0].attempts.failed, 2);
    assert!(stream.dead_letter(&letter(0)).await.unwrap());
    let report = stream.report().await.unwrap();
    assert_eq!((report.dead_letters, report.groups[0].pending), (2, 1));
}

pub async fn silent_consumers_go_unless_they_hold_entries(store: &dyn Store) {
    let stream = store.open(&stream_config());
    stream.ensure_group().await.unwrap();
    let appended = append(&*stream, 0..3).await;
    read(&*stream, "busy", 1).await;
    read(&*stream, "done", 2).await;
    stream.ack(&appended[1..], &[]).await.unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(
        stream.remove_silent_consumers(hour).await.unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(stream.remove_silent_consumers(Duration::ZERO).await.unwrap(), ["done"]);
    assert_eq!(
        stream
            .claim("busy", Claim::Own(&[]), START, 9)
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
    // A removed consumer that reads again is simply there again.
    append(&*stream, [3]).await;
    assert_eq!(read(&*stream, "done", 9).await.len(), 1);
}
