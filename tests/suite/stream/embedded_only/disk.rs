//! The disk: full, limited, and given back.

use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::harness::embedded::EmbeddedFile;
use crate::harness::eventually;
use crate::harness::site::PATIENCE;

/// A file system of so many MiB of one's own; unmounted when dropped.
pub struct SmallDisk {
    pub folder: TempDir,
}

impl SmallDisk {
    /// `None`, said loudly, without the right to mount.
    pub fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("disk-").tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        eprintln!("SKIPPED: no right to mount a tmpfs: a full disk is not tested");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

#[tokio::test]
async fn appends_that_come_in_together_share_a_commit() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    let other = rusqlite::Connection::open(file.path()).unwrap();
    let commits = || -> i64 {
        let sql = "SELECT number FROM commits";
        other.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let before = commits();
    // As long as somebody else writes, the first of them waits, and the rest gathers behind it.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let appends = (0..64).map(|n| append(&stream, n..n + 1, 100));
    let (ids, ()) = tokio::join!(futures_util::future::join_all(appends), async {
        other.execute_batch("ROLLBACK").unwrap();
    });
    let distinct: BTreeSet<_> = ids.concat().into_iter().collect();
    assert_eq!(distinct.len(), 64);
    assert!(commits() - before <= 3, "{} commits", commits() - before);
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_is_waited_for() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let path = disk.folder.path().join("stream.db");
    let filler = disk.folder.path().join("filler");
    append(&open(&path), 0..10, 100).await;
    // Whoever closes the file last takes its log away: to make a new one needs room.
    eventually("the file is closed", PATIENCE, async || {
        (!path.with_extension("db-wal").exists()).then_some(())
    })
    .await;
    drop(std::fs::write(&filler, vec![0; 4 << 20]));
    let stream = open(&path);
    assert!(!stream.stats().is_known());
    let refusal = stream.writer().try_append(&[entry(10, 100)]).await.unwrap_err();
    assert!(
        refusal.is_refused() && refusal.to_string().contains("stream.db"),
        "{refusal}"
    );

    std::fs::remove_file(&filler).unwrap();
    eventually("it is opened", PATIENCE, async || {
        stream.writer().try_append(&[entry(10, 100)]).await.ok()
    })
    .await;
    assert!(stream.stats().is_known());
    assert_eq!(stream.stats().length, 11);
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let path = disk.folder.path().join("stream.db");
    let filler = disk.folder.path().join("filler");
    let stream = open(&path);
    std::fs::write(&filler, vec![0; 12 << 20]).unwrap();
    let (mut stored, mut refusal, mut n) = (BTreeSet::new(), None, 0);
    while refusal.is_none() {
        let flush: Vec<_> = (n..n + 50).map(|n| entry(n, 4000)).collect();
        match stream.writer().try_append(&flush).await {
            Ok(outcomes) => {
                assert!(outcomes.iter().map(accepted).is_sorted());
                stored.extend(n..n + 50);
            }
            Err(error) => refusal = Some(error),
        }
        n += 50;
        assert!(n < 20_000, "the disk is never full");
    }
    let refusal = refusal.unwrap();
    assert!(refusal.is_refused(), "certain not to have happened: {refusal}");
    assert!(refusal.to_string().contains("disk"), "{refusal}");
    std::fs::remove_file(&filler).unwrap();
    eventually("it takes appends again", Duration::from_secs(20), async || {
        stream.confirm_writable(0).await.ok()
    })
    .await;
    append(&stream, n..n + 50, 4000).await;
    stored.extend(n..n + 50);
    stream.ensure_group().await.unwrap();
    assert_eq!(drain(&stream, 4000).await, (stored, 0));
}

#[tokio::test]
async fn the_log_starts_over_though_readers_overlap() {
    const BOUND: u64 = 64 << 20;
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    append(&stream, 0..1, 100).await;
    let path = file.path();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    // At every moment one of them has a snapshot that was made while the other had one. Each lasts for some commits.
    let readers = std::thread::spawn(move || {
        let mut pair = [(); 2].map(|()| rusqlite::Connection::open(&path).unwrap());
        pair[1].execute_batch("BEGIN").unwrap();
        let turn = Duration::from_millis(20);
        while is_done.recv_timeout(turn) == Err(RecvTimeoutError::Timeout) {
            pair[0].execute_batch("BEGIN; SELECT COUNT(*) FROM logs").unwrap();
            pair[1].execute_batch("COMMIT").unwrap();
            pair.swap(0, 1);
        }
    });
    let log = file.path().with_file_name("stream.db-wal");
    let (mut before, mut restarts) = (0, 0);
    for n in 0..150 {
        append(&stream, n * 50 + 1..n * 50 + 51, 60_000).await;
        let bytes = std::fs::metadata(&log).unwrap().len();
        restarts += u32::from(before > BOUND && bytes <= BOUND);
        before = bytes;
    }
    drop(done);
    readers.join().unwrap();
    assert!(restarts > 0, "{before} bytes of 450 MB");
}

#[tokio::test]
async fn giving_space_back_waits_for_no_reader() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    for n in 0..32 {
        append(&stream, n * 50..n * 50 + 50, 60_000).await;
    }
    let reader = rusqlite::Connection::open(file.path()).unwrap();
    let length = "SELECT length FROM logs WHERE log = 0";
    reader.execute_batch("BEGIN").unwrap();
    reader.query_row(length, [], |_| Ok(())).unwrap();
    file.tamper("DELETE FROM entries; UPDATE logs SET length = 0, bytes = 0");
    let pages = || -> i64 {
        let other = rusqlite::Connection::open(file.path()).unwrap();
        other
            .pragma_query_value(None, "freelist_count", |row| row.get(0))
            .unwrap()
    };
    let free = pages();
    assert!(free > 4096, "{free}");
    // Each call but the first comes after a step that gives back. What waits for the reader takes the two seconds that
    // the file's owner is patient for, however fast the disk is; a disk that is busy with others makes single calls
    // late, or miss their limit.
    let mut fastest = Duration::MAX;
    let _ = stream.confirm_writable(0).await;
    // Pages are given back only while no further call waits, so how many calls that takes is open.
    eventually("pages are given back", PATIENCE, async || {
        let called = Instant::now();
        let _ = stream.confirm_writable(0).await;
        fastest = fastest.min(called.elapsed());
        (pages() < free).then_some(())
    })
    .await;
    for _ in 0..20 {
        let called = Instant::now();
        let _ = stream.confirm_writable(0).await;
        fastest = fastest.min(called.elapsed());
    }
    assert!(fastest < Duration::from_secs(1), "each call waits: {fastest:?}");
    reader.execute_batch("COMMIT").unwrap();
}

#[tokio::test]
async fn the_limit_in_bytes_holds_and_space_is_given_back() {
    let file = EmbeddedFile::new();
    let config = StreamConfig {
        retain_acked: 0,
        ..stream_config()
    };
    let limit = 24 << 20;
    let stream = EmbeddedStream::open(&file.path(), &config, Some(limit), Metrics::new()).unwrap();
    stream.ensure_group().await.unwrap();
    let mut stored = 0;
    for n in 0_u32.. {
        let flush: Vec<_> = (n * 100..n * 100 + 100).map(|n| entry(n, 3000)).collect();
        let outcomes = stream.writer().try_append(&flush).await.unwrap();
        stored += outcomes.iter().filter(|one| **one != Appended::Full).count();
        if outcomes.contains(&Appended::Full) {
            break;
        }
    }
    let stats = stream.stats();
    assert!(stats.bytes <= limit && stats.bytes > limit - 4000, "{stats:?}");
    assert_eq!((stats.length, stats.backlog), (stored as u64, stored as u64));
    let size = || std::fs::metadata(file.path()).unwrap().len();
    let never = CancellationToken::new();
    let mut reader = stream.reader("drainer", 0);
    loop {
        let delivered = reader.read(1000, Duration::ZERO, &never).await.unwrap();
        if delivered.is_empty() {
            break;
        }
        let ids: Vec<_> = delivered.iter().map(|one| one.entry.id).collect();
        stream.ack(&ids, &[]).await.unwrap();
        while stream.trim(0).await.unwrap().prefix > 0 {}
    }
    let stats = stream.stats();
    assert_eq!((stats.length, stats.bytes, stats.backlog), (0, 0, 0));
    assert_eq!(stats.oldest(), None);
    eventually("the file shrinks", Duration::from_secs(60), async || {
        stream.confirm_writable(0).await.unwrap();
        (size() < limit / 2).then_some(())
    })
    .await;
    let log = std::fs::metadata(file.path().with_file_name("stream.db-wal"))
        .unwrap()
        .len();
    assert!(log <= 80 << 20, "{log}");
}
