//! What a loss leaves behind: nothing is taken for lost that is only out of reach, and what is lost is owed no longer.

use std::fs;
use std::time::Duration;

use orderstream::stream::Operated as _;

use super::damage::{BYTES, LOST_ROW, damaged_files};
use super::*;
use crate::harness::embedded::{EmbeddedFile, row};
use crate::harness::eventually;

#[tokio::test]
async fn what_cannot_be_opened_for_now_is_not_taken_for_empty() {
    // A name that leads to itself, and a folder, which no closing connection removes.
    type Act = fn(&Path) -> std::io::Result<()>;
    let obstacles: [(&str, Act, Act); 2] = [
        (
            "stream.db",
            |path| std::os::unix::fs::symlink(path, path),
            |path| fs::remove_file(path),
        ),
        (
            "stream.db-wal",
            |path| fs::create_dir(path),
            |path| fs::remove_dir(path),
        ),
    ];
    for (obstacle, put, remove) in obstacles {
        let file = EmbeddedFile::new();
        let stream = open(&file.path());
        stream.ensure_group().await.unwrap();
        append(&stream, 0..50, BYTES).await;
        file.tamper(LOST_ROW);
        let connection = rusqlite::Connection::open(file.path()).unwrap();
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        connection.query_row(truncate, [], |_| Ok(())).unwrap();
        drop(connection);
        let path = file.path().with_file_name(obstacle);
        let away = path.with_extension("away");
        fs::rename(&path, &away).unwrap();
        put(&path).unwrap();
        let flush = [entry(50, BYTES)];
        let mut rests = 0;
        for _ in 0..20 {
            let error = stream.writer().append(&flush).await.unwrap_err();
            assert!(error.is_refused(), "{error}");
            rests += u32::from(error.to_string().contains("is tried again within"));
        }
        assert!(rests > 10, "it is tried again at {} of 20 calls", 20 - rests);
        remove(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        eventually("it is used again", Duration::from_secs(60), async || {
            stream.writer().append(&flush).await.ok()
        })
        .await;
        assert_eq!((stream.stats().lost, damaged_files(&file.path())), (0, 1), "{obstacle}");
        assert_eq!(drain(&stream, BYTES).await.0.len(), 51);
    }
}

#[tokio::test]
async fn what_was_lost_is_taken_when_it_is_sent_again() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    stream.ensure_group().await.unwrap();
    let appended = append(&stream, 0..6, BYTES).await;
    let never = CancellationToken::new();
    let mut reader = stream.reader("a");
    reader.read(4, Duration::ZERO, &never).await.unwrap();
    let lose = |n: usize| format!("DELETE FROM entries WHERE id = {}", row(appended[n]));
    // Told by a claim, by a refresh, and by the tally: pending, then unread.
    file.tamper(&lose(0));
    let own = stream.claim("a", Claim::Own(&[]), StreamId::MIN, 1).await.unwrap();
    assert_eq!(own.deleted, [appended[0]]);
    file.tamper(&lose(1));
    let refreshed = stream.refresh("a", &appended[..2]).await.unwrap();
    assert_eq!(refreshed.gone, [appended[1]]);
    file.tamper(&[&lose(2), &lose(4), LOST_ROW].map(|sql| sql.to_string()).join(";"));
    let flush: Vec<_> = (0..6).map(|n| entry(n, BYTES)).collect();
    assert!(stream.writer().append(&flush).await.unwrap_err().is_refused());
    assert_eq!(stream.stats().lost, 2);
    let outcomes = stream.writer().append(&flush).await.unwrap();
    let taken = outcomes.iter().map(|one| matches!(one, Appended::Accepted(_)));
    assert_eq!(taken.collect::<Vec<_>>(), [true, true, true, false, true, false]);
}

#[tokio::test]
async fn no_id_of_a_lost_letter_is_given_again() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    let id = append(&stream, 0..1, BYTES).await[0];
    file.tamper(&format!(
        "UPDATE logs SET last_id = {} WHERE log = 1",
        row(id) + (1 << 40)
    ));
    let letter = NewEntry {
        destination: Destination::DeadLetters,
        ..entry(1, BYTES)
    };
    let lost = accepted(&stream.writer().append(&[letter]).await.unwrap()[0]);
    file.tamper(&format!("DELETE FROM dead_letters; {LOST_ROW}"));
    assert!(stream.confirm_writable().await.is_err());
    assert_eq!(stream.stats().lost, 1);
    assert!(append(&stream, 2..3, BYTES).await[0] > lost);
}

#[tokio::test]
async fn the_tally_follows_a_replay() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    stream.ensure_group().await.unwrap();
    let appended = append(&stream, 0..2, BYTES).await;
    let never = CancellationToken::new();
    stream.reader("a").read(2, Duration::ZERO, &never).await.unwrap();
    stream.ack(&appended[..1], &[]).await.unwrap();
    // In one commit, as long as somebody else writes: as many are pending as before, but others.
    let group = stream_config().group;
    let other = rusqlite::Connection::open(file.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (_, acked, made, ()) = tokio::join!(
        stream.confirm_writable(),
        stream.ack(&appended[1..], &[]),
        stream.make_pending(&group, &appended[..1]),
        async { other.execute_batch("ROLLBACK").unwrap() }
    );
    assert_eq!((acked.unwrap(), made.unwrap()), (1, Some(1)));
    file.tamper(&format!(
        "DELETE FROM entries WHERE id = {}; {LOST_ROW}",
        row(appended[0])
    ));
    assert!(stream.confirm_writable().await.is_err());
    assert_eq!(stream.stats().lost, 1, "what was made pending again is owed");
}
