//! Damage to the file: whatever it is, what comes out is what was put in, and the rest is counted.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use orderstream::stream::Operated as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use super::disk::SmallDisk;
use super::*;
use crate::harness::embedded::{EmbeddedFile, row};

const ENTRIES: u32 = 600;
pub const BYTES: usize = 900;

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
        let mut reader = stream.reader("a");
        let read = reader.read(150, std::time::Duration::ZERO, &never).await.unwrap();
        let ids: Vec<_> = read.iter().map(|one| one.entry.id).collect();
        stream.ack(&ids[..100], &[]).await.unwrap();
        if folded {
            let connection = rusqlite::Connection::open(file.path()).unwrap();
            let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
            connection.query_row(truncate, [], |_| Ok(())).unwrap();
        }
        let folder = file.path().parent().unwrap().to_owned();
        let files = fs::read_dir(folder).unwrap().map(|one| {
            let path = one.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        });
        Self {
            files: files.filter(|(name, _)| !name.ends_with("-shm")).collect(),
        }
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

/// Opens what was damaged: the 500 that are owed are either delivered or counted, twice in a row.
async fn check(path: &Path, what: &str) -> u64 {
    let mut stream = match try_open(path, &stream_config()) {
        Ok(stream) => stream,
        // A version is no damage that can be told from a newer release's.
        Err(error) => {
            assert!(error.to_string().contains("newer release"), "{what}: {error}");
            return 0;
        }
    };
    let (mut got, mut lost) = drain(&stream, BYTES).await;
    lost += stream.stats().lost;
    let owed: BTreeSet<_> = (100..ENTRIES).collect();
    let missing = owed.difference(&got).count() as u64;
    assert_eq!(missing, lost, "{what}: {missing} are missing, {lost} are counted");
    // What was acked may come again; nothing else comes.
    got.retain(|n| !owed.contains(n));
    assert!(got.iter().all(|n| *n < 100), "{what}");
    let flush: Vec<_> = (ENTRIES..ENTRIES + 10).map(|n| entry(n, BYTES)).collect();
    let mut refusals = 0;
    while let Err(error) = stream.writer().append(&flush).await {
        refused(&error, &mut refusals);
    }
    drop(stream);
    stream = open(path);
    assert_eq!(stream.stats().lost, 0, "{what}: counted once");
    assert!(drain(&stream, BYTES).await.0.contains(&ENTRIES), "{what}");
    lost
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

pub fn damaged_files(path: &Path) -> usize {
    let folder = fs::read_dir(path.parent().unwrap()).unwrap();
    let names = folder.map(|one| one.unwrap().file_name().into_string().unwrap());
    let is_aside = |name: &String| name.contains(".damaged-") && !name.contains("-wal") && !name.contains("-shm");
    names.filter(is_aside).count()
}

#[tokio::test]
async fn a_sound_image_has_lost_nothing() {
    for folded in [true, false] {
        let (_folder, path) = Image::new(folded).await.copy();
        assert_eq!(check(&path, "sound").await, 0);
        assert_eq!(damaged_files(&path), 0);
    }
}

#[tokio::test]
async fn a_truncated_file_loses_what_is_counted() {
    let image = Image::new(true).await;
    let size = image.size("stream.db");
    for eighths in 0..8 {
        for off in [0, 1, 2000] {
            let (_folder, path) = image.copy();
            let length = size * eighths / 8 + off;
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(length)
                .unwrap();
            let lost = check(&path, &format!("cut to {length} of {size} bytes")).await;
            assert!(lost > 0 || length > 7 * size / 8);
            assert!(
                damaged_files(&path) == 1 || length < 4096,
                "less than a page is nothing"
            );
        }
    }
}

#[tokio::test]
async fn a_log_that_is_cut_off_loses_what_is_counted() {
    let image = Image::new(false).await;
    let size = image.size("stream.db-wal");
    assert!(size > 100_000, "the log is folded into the file already");
    for eighths in 0..=8 {
        let (_folder, path) = image.copy();
        let log = path.with_file_name("stream.db-wal");
        let length = size * eighths / 8;
        fs::File::options()
            .write(true)
            .open(log)
            .unwrap()
            .set_len(length)
            .unwrap();
        check(&path, &format!("log cut to {length} of {size} bytes")).await;
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_counted_whole() {
    let (_folder, path) = Image::new(true).await.copy();
    fs::remove_file(&path).unwrap();
    assert_eq!(check(&path, "no file").await, u64::from(ENTRIES - 100));
}

#[tokio::test]
async fn a_replacement_that_was_cut_short_goes_on() {
    let image = Image::new(true).await;
    let (_folder, path) = image.copy();
    // The damaged file has its other name already, the new one has not the one it is to have.
    let fresh = path.with_file_name("stream.db.new");
    fs::rename(&path, &fresh).unwrap();
    let connection = rusqlite::Connection::open(&fresh).unwrap();
    connection
        .execute_batch(
            "UPDATE commits SET number = 0;
             DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id DESC LIMIT 7)",
        )
        .unwrap();
    connection.close().unwrap();
    assert_eq!(check(&path, "cut short").await, 7);
    assert!(!fresh.exists());
}

#[tokio::test]
async fn a_log_that_was_left_behind_is_not_the_new_files() {
    let (_damaged, old) = Image::new(false).await.copy();
    let (_folder, path) = Image::new(true).await.copy();
    fs::rename(&path, path.with_file_name("stream.db.new")).unwrap();
    // The damaged file has its other name already, its log has not.
    let log = path.with_file_name("stream.db-wal");
    fs::rename(old.with_file_name("stream.db-wal"), &log).unwrap();
    let held = fs::metadata(&log).unwrap().len();
    assert!(held > 100_000, "the log is empty");
    assert_eq!(check(&path, "a log left behind").await, 0);
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    let aside = names
        .map(|one| one.unwrap())
        .find(|one| one.file_name().to_str().unwrap().contains(".damaged-"));
    assert_eq!(aside.unwrap().metadata().unwrap().len(), held, "nothing is thrown away");
}

#[tokio::test]
async fn a_row_out_of_its_order_does_not_stop_the_salvage() {
    let (_folder, path) = Image::new(true).await.copy();
    let connection = rusqlite::Connection::open(&path).unwrap();
    let id = |n: u32| -> i64 {
        let sql = "SELECT id FROM entries ORDER BY id LIMIT 1 OFFSET ?1";
        connection.query_row(sql, [n], |row| row.get(0)).unwrap()
    };
    // As SQLite writes an id: seven bits a byte, the last byte whole. It is the last row that is read at once.
    let varint = |id: i64| -> Vec<u8> {
        let high = (0..8).map(|at| (id >> (57 - 7 * at)) as u8 | 0x80);
        high.chain([id as u8]).collect()
    };
    let (from, to) = (varint(id(499)), varint(0));
    connection.execute_batch("DROP TABLE audit").unwrap();
    connection.close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<_> = (0..bytes.len() - 9).filter(|&at| bytes[at..at + 9] == from).collect();
    for at in places {
        bytes[at..at + 9].copy_from_slice(&to);
    }
    fs::write(&path, bytes).unwrap();
    let what = tokio::time::timeout(
        std::time::Duration::from_secs(60),
        tokio::task::spawn_blocking(move || {
            let lost = try_open(&path, &stream_config()).unwrap().stats().lost;
            (lost, damaged_files(&path))
        }),
    );
    assert_eq!(what.await.expect("the salvage ends").unwrap(), (1, 1));
}

#[tokio::test]
async fn a_salvage_that_finds_no_room_loses_nothing() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let image = Image::new(true).await;
    let (path, filler) = (disk.folder.path().join("stream.db"), disk.folder.path().join("filler"));
    let mut refusals = 0;
    for kib in (100..2000).step_by(150) {
        for one in fs::read_dir(disk.folder.path()).unwrap() {
            fs::remove_file(one.unwrap().path()).unwrap();
        }
        for (name, bytes) in &image.files {
            fs::write(path.with_file_name(name), bytes).unwrap();
        }
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("DROP TABLE audit").unwrap();
        connection.close().unwrap();
        let room = free(disk.folder.path());
        fs::write(&filler, vec![0; room.saturating_sub(kib << 10)]).unwrap();
        refusals += u32::from(!open(&path).stats().is_known());
        fs::remove_file(&filler).unwrap();
        assert_eq!(check(&path, &format!("{kib} KiB free")).await, 0, "{kib} KiB free");
    }
    assert!(refusals > 0, "there was room always");
}

#[tokio::test]
async fn flipped_bytes_never_come_out_and_are_counted() {
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
            check(&path, &what).await;
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
    let mut reader = stream.reader("a");
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
}

/// Damage that the next call meets, whatever it is, and that leaves every entry readable.
pub const LOST_ROW: &str = "DELETE FROM commits";

#[tokio::test]
async fn a_row_that_is_missing_or_of_another_type_is_damage() {
    for damage in [
        LOST_ROW,
        "DELETE FROM logs",
        "DELETE FROM logs WHERE log = 1",
        "PRAGMA ignore_check_constraints = ON; UPDATE commits SET one = 2, number = NULL",
        "UPDATE logs SET length = CAST('many' AS BLOB) WHERE log = 0",
    ] {
        let (_folder, path) = Image::new(true).await.copy();
        spoil(&path, damage);
        assert_eq!(check(&path, damage).await, 0);
        assert_eq!(damaged_files(&path), 1, "{damage}");
    }
}

#[tokio::test]
async fn a_group_that_is_not_where_it_was_confirmed_to_be_is_damage() {
    let image = Image::new(true).await;
    for damage in [
        "UPDATE consumer_groups SET last_delivered = (SELECT MAX(id) FROM entries)",
        "UPDATE consumer_groups SET name = 'pipeline_workerr'",
        "UPDATE consumer_groups SET read = read + 1",
        "DELETE FROM pending WHERE id = (SELECT MAX(id) FROM pending)",
    ] {
        let (_folder, path) = image.copy();
        spoil(&path, damage);
        assert_eq!(check(&path, damage).await, 0);
        assert_eq!(damaged_files(&path), 1, "{damage}");
    }
    // Another group's place is no news of ours.
    let (_folder, path) = image.copy();
    let other = StreamConfig {
        group: "others".to_owned(),
        ..stream_config()
    };
    drop(try_open(&path, &other).unwrap());
    assert_eq!(damaged_files(&path), 0);
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

#[tokio::test]
async fn damage_under_a_running_stream_is_mended() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    stream.ensure_group().await.unwrap();
    let mut note = Fields::default();
    note.push("action", "replay");
    stream.note(&note).await.unwrap();
    // More than a connection keeps in memory.
    let count = 24_000;
    for n in 0..count / 500 {
        append(&stream, n * 500..n * 500 + 500, BYTES).await;
    }
    let connection = rusqlite::Connection::open(file.path()).unwrap();
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(connection);
    let raw = fs::File::options().write(true).open(file.path()).unwrap();
    raw.write_all_at(&[0xAA; 50_000], raw.metadata().unwrap().len() / 2)
        .unwrap();
    let (got, gone) = drain(&stream, BYTES).await;
    let lost = stream.stats().lost + gone;
    assert_eq!(got.len() as u64 + lost, u64::from(count));
    assert!((1..2000).contains(&lost), "{lost} are lost");
    assert_eq!(damaged_files(&file.path()), 1);
    assert_eq!(stream.notes(9).await.unwrap()[0].fields, note);
    append(&stream, count..count + 10, BYTES).await;
    assert_eq!(drain(&stream, BYTES).await.0.len(), 24_010 - lost as usize);
}
