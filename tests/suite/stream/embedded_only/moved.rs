//! A file that is removed or replaced while it is open: nothing is confirmed any more that nobody would find, and what it
//! holds is still worked off.

use std::fs;
use std::time::Duration;

use orderstream::stream::{DeadLetter, StreamAdmin as _};

use super::*;
use crate::harness::embedded::EmbeddedFile;
use crate::harness::eventually;

const BYTES: usize = 900;

fn names(path: &Path) -> [std::path::PathBuf; 3] {
    ["stream.db", "stream.db-wal", "stream.db-shm"].map(|name| path.with_file_name(name))
}

#[tokio::test]
async fn what_is_removed_takes_nothing_more_and_gives_what_it_has() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    stream.ensure_group().await.unwrap();
    append(&stream, 0..20, BYTES).await;
    stream.report().await.unwrap();
    for name in names(&file.path()) {
        fs::remove_file(name).unwrap();
    }
    // The first answer comes after the look at the name.
    let mut writer = stream.writer();
    let flush = [entry(20, BYTES)];
    let error = writer.try_append(&flush).await.unwrap_err();
    assert!(error.to_string().contains("removed or renamed"), "{error}");
    assert!(stream.stats().is_moved());
    for _ in 0..2 {
        let error = writer.try_append(&flush).await.unwrap_err();
        assert!(error.is_refused() && error.to_string().contains("MOVED"), "{error}");
        assert!(stream.confirm_writable(0).await.is_err());
    }
    let never = CancellationToken::new();
    let mut reader = stream.reader("a", 0);
    let read = reader.read(20, Duration::ZERO, &never).await.unwrap();
    assert_eq!(read.len(), 20, "it is still read");
    let letter = DeadLetter {
        entry: read[0].entry.clone(),
        error: "no good".to_owned(),
        attempts: 1,
        consumer: "a".to_owned(),
    };
    assert!(stream.dead_letter(&letter).await.is_err());
    assert!(stream.note(&fields(1, 10)).await.is_err());
    let ids: Vec<_> = read.iter().map(|one| one.entry.id).collect();
    assert_eq!(stream.ack(&ids, &[]).await.unwrap(), 20, "and acked");
    assert_eq!(stream.report().await.unwrap().groups[0].pending, 0);
    assert!(!file.path().exists(), "none is made under its name");

    drop(stream);
    let stream = open(&file.path());
    append(&stream, 20..21, BYTES).await;
}

#[tokio::test]
async fn what_is_put_back_is_used_again() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    stream.ensure_group().await.unwrap();
    append(&stream, 0..20, BYTES).await;
    let away = file.path().with_file_name("away");
    fs::rename(file.path(), &away).unwrap();
    assert!(stream.confirm_writable(0).await.is_err());
    // Another one under its name is not taken for it.
    fs::write(file.path(), "another").unwrap();
    let error = stream.writer().try_append(&[entry(20, BYTES)]).await.unwrap_err();
    assert!(error.to_string().contains("replaced by another"), "{error}");
    assert_eq!(fs::read(file.path()).unwrap(), b"another");
    fs::rename(&away, file.path()).unwrap();
    append(&stream, 20..25, BYTES).await;
    assert!(!stream.stats().is_moved());
    let (got, _) = drain(&stream, BYTES).await;
    assert_eq!(got, (0..25).collect());
}

#[tokio::test]
async fn a_log_that_is_removed_is_made_anew_and_nothing_is_lost() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    stream.ensure_group().await.unwrap();
    append(&stream, 0..20, BYTES).await;
    stream.report().await.unwrap();
    let reader = rusqlite::Connection::open(file.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT COUNT(*) FROM entries").unwrap();
    let [_, log, _] = names(&file.path());
    fs::remove_file(&log).unwrap();
    // As long as somebody reads, the log cannot be emptied.
    let error = stream.writer().try_append(&[entry(20, BYTES)]).await.unwrap_err();
    assert!(error.to_string().contains("(-wal) was removed"), "{error}");
    drop(reader);
    let flush = [entry(21, BYTES)];
    eventually("it takes appends again", Duration::from_secs(20), async || {
        stream.writer().try_append(&flush).await.ok()
    })
    .await;
    append(&stream, 22..30, BYTES).await;
    assert_eq!(stream.report().await.unwrap().length, 30);
    // As it would be found after a crash.
    let copy = tempfile::tempdir().unwrap();
    for name in names(&file.path()) {
        fs::copy(&name, copy.path().join(name.file_name().unwrap())).unwrap();
    }
    let stream = open(&copy.path().join("stream.db"));
    assert_eq!((stream.stats().lost, stream.stats().losses_unknown), (0, 0));
    assert_eq!(all(&stream, Destination::Stream).await.len(), 30);
}
