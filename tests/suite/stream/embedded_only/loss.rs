//! What a loss leaves behind: nothing is taken for lost that is only out of reach, and what is lost is taken again.

use std::fs;
use std::time::Duration;

use super::damage::{BYTES, LOST_ROW, damaged_files};
use super::*;
use crate::harness::embedded::{EmbeddedFile, row};

#[tokio::test]
async fn what_cannot_be_opened_for_now_is_not_taken_for_damaged() {
    // A name that leads to itself, and a folder in the place of the log.
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
        // As a killed process leaves it.
        let live = open(&file.path());
        live.ensure_group().await.unwrap();
        append(&live, 0..50, BYTES).await;
        let folder = tempfile::tempdir().unwrap();
        for name in ["stream.db", "stream.db-wal", "stream.db-shm"] {
            fs::copy(file.path().with_file_name(name), folder.path().join(name)).unwrap();
        }
        let path = folder.path().join("stream.db");
        let (hidden, away) = (folder.path().join(obstacle), folder.path().join("away"));
        fs::rename(&hidden, &away).unwrap();
        put(&hidden).unwrap();
        for _ in 0..3 {
            let error = try_open(&path, &stream_config()).err().unwrap();
            assert!(error.is_refused(), "{error}");
            assert!(error.to_string().contains("stream.db"), "{error}");
        }
        remove(&hidden).unwrap();
        fs::rename(&away, &hidden).unwrap();
        let stream = open(&path);
        let stats = stream.stats();
        assert_eq!(
            (stats.lost, stats.losses_unknown, damaged_files(&path)),
            (0, 0, 0),
            "{obstacle}"
        );
        assert_eq!(drain(&stream, BYTES).await.0.len(), 50);
    }
}

#[tokio::test]
async fn what_was_lost_is_taken_when_it_is_sent_again() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    stream.ensure_group().await.unwrap();
    let appended = append(&stream, 0..6, BYTES).await;
    let never = CancellationToken::new();
    let mut reader = stream.reader("a", 0);
    reader.read(4, Duration::ZERO, &never).await.unwrap();
    let lose = |n: usize| format!("DELETE FROM entries WHERE id = {}", row(appended[n]));
    // Told by a claim and by a refresh.
    file.tamper(&lose(0));
    let own = stream.claim("a", Claim::Own(&[]), StreamId::MIN, 1).await.unwrap();
    assert_eq!(own.deleted, [appended[0]]);
    file.tamper(&lose(1));
    let refreshed = stream.refresh("a", &appended[..2]).await.unwrap();
    assert_eq!(refreshed.gone, [appended[1]]);
    let flush: Vec<_> = (0..6).map(|n| entry(n, BYTES)).collect();
    let taken = |outcomes: &[Appended]| -> Vec<bool> {
        let taken = outcomes.iter().map(|one| matches!(one, Appended::Accepted(_)));
        taken.collect()
    };
    let outcomes = stream.writer().try_append(&flush).await.unwrap();
    assert_eq!(taken(&outcomes), [true, true, false, false, false, false]);
    // With the whole file.
    file.tamper(LOST_ROW);
    assert!(stream.writer().try_append(&flush).await.unwrap_err().is_refused());
    assert_eq!(stream.stats().lost, 6);
    let outcomes = stream.writer().try_append(&flush).await.unwrap();
    assert_eq!(taken(&outcomes), [true; 6]);
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
    let lost = accepted(&stream.writer().try_append(&[letter]).await.unwrap()[0]);
    file.tamper(LOST_ROW);
    assert!(stream.writer().try_append(&[entry(2, BYTES)]).await.is_err());
    let stats = stream.stats();
    assert_eq!((stats.lost, stats.losses_unknown), (2, 0), "an entry and a letter");
    assert!(append(&stream, 2..3, BYTES).await[0] > lost);
}
