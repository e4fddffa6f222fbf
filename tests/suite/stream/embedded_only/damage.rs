//! Damage to the file: it is set aside, a new one is begun, and the loss is said. Whatever comes out is what was put in.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use orderstream::stream::embedded::Stats;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use super::disk::SmallDisk;
use super::*;
use crate::harness::embedded::{EmbeddedFile, row};

const ENTRIES: u32 = 600;
/// Of them 100 are acked.
const OWED: u64 = 500;
pub const BYTES: usize = 900;
/// A table root each stands at the start of the file, so that the counts outlive damage behind them.
const ROOTS: u64 = 20 * 4096;

/// The files of a stream as a killed process leaves them: 100 entries acked, 50 pending, the rest unread.
struct Image {
    files: Vec<(String, Vec<u8>)>,
}

impl Image {
    /// `folded`: the log is in the file already.
    async fn new(folded: bool) -> Self {
        let file = EmbeddedFile::new();
        let stream = open(&file.path());
        stream.ensure_group().await.unwrap();
        for n in 0..ENTRIES / 50 {
            append(&stream, n * 50..n * 50 + 50, BYTES).await;
        }
        let never = CancellationToken::new();
        let mut reader = stream.reader("a", 0);
        let read = reader.read(150, std::time::Duration::ZERO, &never).await.unwrap();
        let ids: Vec<_> = read.iter().map(|one| one.entry.id).collect();
        stream.ack(&ids[..100], &[]).await.unwrap();
        if folded {
            fold(&file.path());
        }
        let folder = file.path().parent().unwrap().to_owned();
        let files = fs::read_dir(folder).unwrap().map(|one| {
            let path = one.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        });
        Self { files: files.collect() }
    }

    /// A copy in a folder of its own.
    fn copy(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in &self.files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let path = folder.path().join("stream.db");
        (folder, path)
    }

    fn size(&self, name: &str) -> u64 {
        let file = self.files.iter().find(|(found, _)| found == name);
        file.map_or(0, |(_, bytes)| bytes.len() as u64)
    }
}

/// Moves the log into the file.
fn fold(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    connection.query_row(truncate, [], |_| Ok(())).unwrap();
}

fn cut(path: &Path, length: u64) {
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

/// What a file lost, as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The number, entries that were found damaged one by one included.
    Exactly(u64),
    /// At most that, or 0 where there is no bound.
    Unknown(u64),
}

/// Opens what was damaged: what is owed is delivered, or its loss is said, once. Then the file works.
async fn check(path: &Path, what: &str) -> Said {
    let mut stream = match try_open(path, &stream_config()) {
        Ok(stream) => stream,
        // A version is no damage that can be told from a newer release's.
        Err(error) => {
            assert!(error.to_string().contains("newer release"), "{what}: {error}");
            return Said::Exactly(0);
        }
    };
    let (mut got, gone) = drain(&stream, BYTES).await;
    let Stats {
        lost, losses_unknown, ..
    } = stream.stats();
    let owed: BTreeSet<_> = (100..ENTRIES).collect();
    let missing = owed.difference(&got).count() as u64;
    let said = match losses_unknown {
        0 => {
            assert_eq!(missing, lost + gone, "{what}");
            Said::Exactly(lost + gone)
        }
        _ => {
            assert!(lost == 0 || missing <= lost + gone, "{what}: {missing} > {lost}");
            Said::Unknown(lost)
        }
    };
    // What was acked may come again; nothing else comes.
    got.retain(|n| !owed.contains(n));
    assert!(got.iter().all(|n| *n < 100), "{what}");
    let flush: Vec<_> = (ENTRIES..ENTRIES + 10).map(|n| entry(n, BYTES)).collect();
    let mut refusals = 0;
    while let Err(error) = stream.writer().try_append(&flush).await {
        refused(&error, &mut refusals);
    }
    drop(stream);
    stream = open(path);
    let stats = stream.stats();
    assert_eq!((stats.lost, stats.losses_unknown), (0, 0), "{what}: said once");
    assert!(drain(&stream, BYTES).await.0.contains(&ENTRIES), "{what}");
    said
}

/// Bytes that a file system has room for.
fn free(path: &Path) -> usize {
    let df = std::process::Command::new("df")
        .args(["-B1", "--output=avail"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(df.stdout).unwrap();
    text.lines().nth(1).unwrap().trim().parse().unwrap()
}

/// The files, or what is there of them, that were set aside.
pub fn damaged_files(path: &Path) -> usize {
    let folder = fs::read_dir(path.parent().unwrap()).unwrap();
    let names = folder.map(|one| one.unwrap().file_name().into_string().unwrap());
    let asides: BTreeSet<_> = names
        .filter(|name| name.contains(".damaged-"))
        .map(|name| name.trim_end_matches("-wal").trim_end_matches("-shm").to_owned())
        .collect();
    asides.len()
}

#[tokio::test]
async fn a_sound_image_has_lost_nothing() {
    for folded in [true, false] {
        let image = Image::new(folded).await;
        let (_folder, path) = image.copy();
        assert_eq!(check(&path, "sound").await, Said::Exactly(0));
        assert_eq!(damaged_files(&path), 0);
        // As after a power cut: the index of the log is not there, or an older one.
        let (_folder, path) = image.copy();
        fs::remove_file(path.with_file_name("stream.db-shm")).unwrap();
        assert_eq!(check(&path, "no index").await, Said::Exactly(0));
        assert_eq!(damaged_files(&path), 0);
    }
}

#[tokio::test]
async fn a_truncated_file_tells_how_much_was_in_it() {
    let image = Image::new(true).await;
    let size = image.size("stream.db");
    assert!(size / 4 > ROOTS, "{size}");
    for eighths in 0..8 {
        for off in [0, 1, 2000] {
            let (_folder, path) = image.copy();
            let length = size * eighths / 8 + off;
            cut(&path, length);
            let said = check(&path, &format!("cut to {length} of {size} bytes")).await;
            if length > ROOTS {
                assert_eq!(said, Said::Exactly(OWED), "{length}");
            } else {
                assert!(
                    matches!(said, Said::Exactly(OWED) | Said::Unknown(_)),
                    "{length}: {said:?}"
                );
            }
            assert_eq!(damaged_files(&path), 1, "{length}");
        }
    }
}

#[tokio::test]
async fn a_log_that_is_cut_off_has_lost_nobody_knows_how_much() {
    let image = Image::new(false).await;
    let size = image.size("stream.db-wal");
    assert!(size > 100_000, "the log is folded into the file already");
    for eighths in 0..=8 {
        let (_folder, path) = image.copy();
        let length = size * eighths / 8;
        cut(&path.with_file_name("stream.db-wal"), length);
        let said = check(&path, &format!("log cut to {length} of {size} bytes")).await;
        let expected = if eighths == 8 {
            Said::Exactly(0)
        } else {
            Said::Unknown(0)
        };
        assert_eq!(said, expected, "{length} of {size}");
        assert_eq!(damaged_files(&path), 0, "what is left is used");
    }
    let (_folder, path) = image.copy();
    fs::remove_file(path.with_file_name("stream.db-wal")).unwrap();
    assert_eq!(check(&path, "no log").await, Said::Unknown(0));
}

#[tokio::test]
async fn a_file_that_is_gone_is_said() {
    for folded in [true, false] {
        let image = Image::new(folded).await;
        for act in [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| cut(path, 0)] {
            let (_folder, path) = image.copy();
            act(&path);
            assert_eq!(check(&path, "no file").await, Said::Unknown(0));
            assert_eq!(damaged_files(&path), 1, "its log is kept");
        }
    }
}

#[tokio::test]
async fn looking_at_a_file_that_has_lost_its_log_takes_no_news_away() {
    let image = Image::new(false).await;
    let (_folder, path) = image.copy();
    cut(&path.with_file_name("stream.db-wal"), image.size("stream.db-wal") / 2);
    for _ in 0..2 {
        let error = EmbeddedStream::check_file(&path).unwrap_err().to_string();
        assert!(error.contains("`orderstream run` sets it aside"), "{error}");
    }
    assert_eq!(check(&path, "looked at").await, Said::Unknown(0));

    let (_folder, path) = image.copy();
    EmbeddedStream::check_file(&path).unwrap();
    assert_eq!(check(&path, "sound").await, Said::Exactly(0));
}

#[tokio::test]
async fn a_new_file_that_finds_no_room_is_waited_for() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let image = Image::new(true).await;
    let (path, filler) = (disk.folder.path().join("stream.db"), disk.folder.path().join("filler"));
    for (name, bytes) in &image.files {
        fs::write(path.with_file_name(name), bytes).unwrap();
    }
    spoil(&path, "DELETE FROM logs WHERE log = 1");
    fs::write(&filler, vec![0; free(disk.folder.path())]).unwrap();
    let stream = open(&path);
    assert!(!stream.stats().is_known(), "there was room");
    let flush = [entry(ENTRIES, BYTES)];
    let error = stream.writer().try_append(&flush).await.unwrap_err();
    assert!(
        error.is_refused() && error.to_string().contains("tried again"),
        "{error}"
    );
    fs::remove_file(&filler).unwrap();
    crate::harness::eventually("there is room", std::time::Duration::from_secs(60), async || {
        stream.writer().try_append(&flush).await.ok()
    })
    .await;
    let stats = stream.stats();
    assert_eq!((stats.lost, stats.losses_unknown), (u64::from(ENTRIES), 1), "said once");
    assert_eq!(damaged_files(&path), 1);
}

#[tokio::test]
async fn flipped_bytes_never_come_out_and_are_said() {
    for folded in [true, false] {
        let image = Image::new(folded).await;
        for seed in 0..24 {
            let mut random = StdRng::seed_from_u64(seed);
            let name = if folded { "stream.db" } else { "stream.db-wal" };
            let (_folder, path) = image.copy();
            let file = fs::File::options().write(true).open(path.with_file_name(name)).unwrap();
            let at = random.random_range(0..image.size(name));
            // A byte, or a stretch of rubbish.
            let rubbish: Vec<u8> = (0..[1, 1, 600, 9000][seed as usize % 4])
                .map(|_| random.random())
                .collect();
            file.write_all_at(&rubbish, at).unwrap();
            let what = format!("{} bytes of rubbish at {at} of {name}, seed {seed}", rubbish.len());
            let said = check(&path, &what).await;
            eprintln!("{what}: {said:?}");
            assert!(folded || said != Said::Exactly(0) || rubbish.len() == 1, "{what}");
        }
    }
}

#[tokio::test]
async fn a_damaged_entry_is_lost_alone() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    stream.ensure_group().await.unwrap();
    let appended = append(&stream, 0..6, BYTES).await;
    let never = CancellationToken::new();
    let mut reader = stream.reader("a", 0);
    reader.read(3, std::time::Duration::ZERO, &never).await.unwrap();
    for n in [1, 4] {
        let row = row(appended[n]);
        file.tamper(&format!(
            "UPDATE entries SET fields = CAST(substr(fields, 1, 99) || x'00' || substr(fields, 101) AS BLOB) WHERE id = {row}"
        ));
    }
    let own = stream.claim("a", Claim::Own(&[]), StreamId::MIN, 10).await.unwrap();
    assert_eq!(own.deleted, [appended[1]]);
    assert_eq!(own.entries.len(), 2);
    let read = reader.read(10, std::time::Duration::ZERO, &never).await.unwrap();
    let ids: Vec<_> = read.iter().map(|one| one.entry.id).collect();
    assert_eq!(ids, [appended[3], appended[5]]);
    let report = stream.report().await.unwrap();
    assert_eq!(
        (report.length, report.groups[0].lag, report.groups[0].pending),
        (4, Some(0), 4)
    );
    assert_eq!(all(&stream, Destination::Stream).await.len(), 4);
    let stats = stream.stats();
    assert_eq!((stats.lost, stats.losses_unknown), (1, 0), "the other one by its claim");
}

/// Damage that the next call meets: the counts are gone, the entries are there.
pub const LOST_ROW: &str = "DELETE FROM logs";

#[tokio::test]
async fn counts_that_are_gone_are_bounded_by_what_is_there() {
    for damage in [
        LOST_ROW,
        "DELETE FROM logs WHERE log = 1",
        "UPDATE logs SET length = CAST('many' AS BLOB) WHERE log = 0",
        "UPDATE consumer_groups SET pending = NULL",
    ] {
        let (_folder, path) = Image::new(true).await.copy();
        spoil(&path, damage);
        assert_eq!(
            check(&path, damage).await,
            Said::Unknown(ENTRIES.into()),
            "{damage}: at most all that is there"
        );
        assert_eq!(damaged_files(&path), 1, "{damage}");
    }
    // A row that nothing depends on.
    let (_folder, path) = Image::new(true).await.copy();
    spoil(&path, "DELETE FROM commits");
    assert_eq!(check(&path, "no commits").await, Said::Exactly(0));
    assert_eq!(damaged_files(&path), 0);
    let stream = open(&path);
    stream.confirm_writable(0).await.unwrap();
    stream.confirm_writable(0).await.unwrap();
}

/// Changes a file that nobody has open, whatever its tables say.
fn spoil(path: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let strict = "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(replace(sql, 'STRICT', ''), ' NOT NULL', '') WHERE type = 'table'";
    let again = "UPDATE sqlite_schema SET sql = ?2 WHERE type = 'table' AND name = ?1";
    let mut tables = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
        .unwrap();
    let tables: Vec<(String, String)> = tables
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    connection.execute_batch(strict).unwrap();
    let loose = rusqlite::Connection::open(path).unwrap();
    loose.execute_batch(sql).unwrap();
    for table in tables {
        connection.execute(again, table).unwrap();
    }
}

/// What a consumer has in hand is not lost, and only it knows how much of that it has loaded.
#[tokio::test]
async fn damage_under_a_running_stream_is_counted_exactly_where_no_consumer_has_entries_in_hand() {
    damage_under_a_running_stream(true).await;
    damage_under_a_running_stream(false).await;
}

async fn damage_under_a_running_stream(acks: bool) {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    stream.ensure_group().await.unwrap();
    // More than a connection keeps in memory.
    let count = 24_000;
    for n in 0..count / 500 {
        append(&stream, n * 500..n * 500 + 500, BYTES).await;
    }
    let last = append(&stream, count..count + 1, BYTES).await[0];
    fold(&file.path());
    let raw = fs::File::options().write(true).open(file.path()).unwrap();
    raw.write_all_at(&[0xAA; 50_000], raw.metadata().unwrap().len() / 2)
        .unwrap();
    let mut reader = stream.reader("a", 0);
    let (never, mut read, mut acked) = (CancellationToken::new(), 0, 0);
    let error = loop {
        match reader.read(500, std::time::Duration::ZERO, &never).await {
            Ok(page) => {
                assert!(!page.is_empty(), "read to its end");
                read += page.len() as u64;
                if acks {
                    let ids: Vec<_> = page.iter().map(|one| one.entry.id).collect();
                    stream.ack(&ids, &[]).await.unwrap();
                    acked = read;
                }
            }
            Err(error) => break error,
        }
    };
    assert!(error.is_refused() && read > 0, "{error}, after {read}");
    let stats = stream.stats();
    let unacked = u64::from(count) + 1 - acked;
    assert_eq!(
        (stats.lost, stats.losses_unknown),
        (unacked, u64::from(!acks)),
        "at most what was not acked"
    );
    assert_eq!((stats.length, stats.backlog), (0, 0));
    assert_eq!(damaged_files(&file.path()), 1);
    let next = append(&stream, count..count + 10, BYTES).await;
    assert!(next[0] > last, "no id is given twice");
    assert_eq!(drain(&stream, BYTES).await.0.len(), 10);
    // What `.recover` has to work with.
    let aside = fs::read_dir(file.path().parent().unwrap())
        .unwrap()
        .map(|one| one.unwrap().path())
        .find(|path| path.to_str().unwrap().contains(".damaged-") && path.extension().is_some())
        .unwrap();
    assert!(
        fs::metadata(aside).unwrap().len() > 20_000_000,
        "nothing is thrown away"
    );
}
