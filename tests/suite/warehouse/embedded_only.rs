//! What concerns the file alone: whoever else opens it, and whatever happens to it.

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use orderstream::metrics::Metrics;
use orderstream::retryability::Retryability;
use orderstream::warehouse::embedded::EmbeddedWarehouse;
use orderstream::warehouse::{Warehouse, WarehouseError};
use serde_json::json;

use super::Store;
use super::events::{Sample, order, records};
use super::store::{WarehouseFile, query};
use crate::harness::eventually;
use crate::harness::tmpfs::Tmpfs;

/// So many new orders, each with a payload of that many bytes more.
fn orders(numbers: std::ops::Range<u32>, bytes: usize) -> Vec<Sample> {
    let large = |n: u32| {
        let mut event = order(&format!("e{n}"), &n.to_string(), 1, 0);
        event["unknown"] = json!("x".repeat(bytes));
        event.into()
    };
    numbers.map(large).collect()
}

fn count(connection: &rusqlite::Connection) -> String {
    query(connection, "SELECT count(*) FROM order_events").text()
}

fn log_size(file: &WarehouseFile) -> u64 {
    std::fs::metadata(file.path().with_extension("db-wal")).map_or(0, |metadata| metadata.len())
}

#[tokio::test]
async fn a_long_read_sees_one_state_and_holds_nobody_up() {
    let file = WarehouseFile::migrated().await;
    let warehouse = file.open();
    warehouse.load(&records(&orders(0..10, 0))).await.unwrap();
    let reader = file.connection();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(&reader), "10");
    for n in 1..10 {
        warehouse
            .load(&records(&orders(n * 10..n * 10 + 10, 100_000)))
            .await
            .unwrap();
        assert_eq!(count(&reader), "10");
    }
    let grown = log_size(&file);
    assert!(grown > 8_000_000, "{grown} bytes are kept for the reader");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&reader), "100");
    warehouse.load(&records(&orders(100..101, 0))).await.unwrap();
    warehouse.load(&records(&orders(101..102, 0))).await.unwrap();
    let shrunk = log_size(&file);
    assert!(shrunk <= 4 << 20, "{shrunk} bytes are kept for nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_lock_of_another_program_is_waited_for_and_then_its_fault() {
    let file = WarehouseFile::migrated().await;
    let warehouse = file.open();
    let batch = orders(0..1, 0);
    let writer = file.connection();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = warehouse.load(&records(&batch)).await.unwrap_err();
    assert!(
        matches!(&error, WarehouseError::Unavailable { code, .. } if code.contains("SQLITE_BUSY")),
        "{error}"
    );
    assert_eq!(error.retryability(), Retryability::Transient);
    warehouse.check().await.expect("who only reads is not held up");
    let loading = async { warehouse.load(&records(&batch)).await.unwrap() };
    let release = async {
        // Whether before the load waits or after: it must go through.
        tokio::task::yield_now().await;
        writer.execute_batch("COMMIT").unwrap();
    };
    let (loaded, ()) = tokio::join!(loading, release);
    assert_eq!(loaded.inserted, 1);
}

#[tokio::test]
async fn what_was_confirmed_is_in_the_files_as_they_lie_there() {
    let file = WarehouseFile::migrated().await;
    file.open().load(&records(&orders(0..10, 0))).await.unwrap();
    // As after a crash: nothing was closed in order.
    let copy = tempfile::tempdir().unwrap();
    for name in ["warehouse.db", "warehouse.db-wal"] {
        std::fs::copy(file.path().with_file_name(name), copy.path().join(name)).unwrap();
    }
    let again = EmbeddedWarehouse::open(&copy.path().join("warehouse.db"));
    assert_eq!(again.load(&records(&orders(0..11, 0))).await.unwrap().known, 10);
}

#[tokio::test]
async fn two_processes_migrate_one_file_once() {
    let file = WarehouseFile::missing();
    let tasks = tokio_util::task::TaskTracker::new();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let warehouse = EmbeddedWarehouse::open(&file.path());
            // SQLite does not wait for whoever makes the same new file, so one may have to come again.
            tasks.spawn(eventually("migrated", Duration::from_secs(30), async move || {
                warehouse.migrate().await.ok()
            }))
        })
        .collect();
    for run in runs {
        assert_eq!(run.await.unwrap().to, 10);
    }
    assert_eq!(
        file.query("SELECT version FROM schema_migrations ORDER BY 1")
            .await
            .text(),
        "1\n2\n3\n4\n5\n6\n7\n8\n9\n10"
    );
}

/// The figures of what was lost, exactly and not.
fn lost(metrics: &Metrics) -> (u64, u64) {
    (metrics.entries_lost.get(), metrics.losses_unknown.get())
}

/// The files that were set aside.
fn set_aside(file: &WarehouseFile) -> Vec<std::path::PathBuf> {
    let names = std::fs::read_dir(file.path().parent().unwrap()).unwrap();
    let paths = names.map(|one| one.unwrap().path());
    let is_aside = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    paths.filter(is_aside).collect()
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_by_the_next_load_and_said() {
    let whole = WarehouseFile::migrated().await;
    whole.open().load(&records(&orders(0..200, 2_000))).await.unwrap();
    // Everything is in the file itself afterwards.
    whole
        .connection()
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let bytes = std::fs::read(whole.path()).unwrap();
    let overwritten = |from: usize, length: usize| {
        let mut bytes = bytes.clone();
        bytes[from..from + length].fill(0xA5);
        bytes
    };
    for (what, damaged, expected) in [
        ("header", overwritten(0, 100), (0, 1)),
        ("first page", overwritten(100, 3_000), (0, 1)),
        ("in the middle", overwritten(bytes.len() / 2, 50_000), (200, 0)),
        ("cut off", bytes[..bytes.len() / 2].to_vec(), (0, 1)),
        ("another file", b"no database at all\n".repeat(500), (0, 1)),
    ] {
        let file = WarehouseFile::missing();
        std::fs::write(file.path(), &damaged).unwrap();
        let metrics = Metrics::new();
        let warehouse = EmbeddedWarehouse::open(&file.path()).counted(&metrics);
        let batch = orders(0..1, 0);
        for _ in 0..2 {
            let error = warehouse.check().await.unwrap_err();
            assert!(matches!(error, WarehouseError::Unusable(_)), "{what}: {error}");
            assert_eq!(
                error.retryability(),
                Retryability::Transient,
                "the events stay in the stream"
            );
            let text = error.to_string();
            let path = file.path().display().to_string();
            assert!(
                text.contains("damaged") && text.contains(&path) && text.contains("aside"),
                "{what}: {text}"
            );
        }
        assert_eq!(set_aside(&file).len(), 0, "{what}: to look changes nothing");
        assert_eq!(lost(&metrics), (0, 0));
        assert_eq!(warehouse.load(&records(&batch)).await.unwrap().inserted, 1, "{what}");
        assert_eq!(set_aside(&file).len(), 1, "{what}");
        assert_eq!(
            std::fs::metadata(&set_aside(&file)[0]).unwrap().len(),
            damaged.len() as u64,
            "{what}"
        );
        let (known, unknown) = lost(&metrics);
        assert!(
            (known, unknown) == expected || (known >= 200, unknown) == (true, 1),
            "{what}: {known}, {unknown}"
        );
        warehouse.check().await.unwrap();
    }
}

#[tokio::test]
async fn damage_under_an_open_file_is_met_by_a_load() {
    let file = WarehouseFile::migrated().await;
    let metrics = Metrics::new();
    let warehouse = EmbeddedWarehouse::open(&file.path()).counted(&metrics);
    warehouse.load(&records(&orders(0..200, 2_000))).await.unwrap();
    file.connection()
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let mut raw = std::fs::File::options().write(true).open(file.path()).unwrap();
    let length = raw.metadata().unwrap().len();
    raw.seek(SeekFrom::Start(4096)).unwrap();
    raw.write_all(&vec![0xA5; usize::try_from(length).unwrap() - 4096])
        .unwrap();
    let reopened = EmbeddedWarehouse::open(&file.path()).counted(&metrics);
    assert_eq!(reopened.load(&records(&orders(0..1, 0))).await.unwrap().inserted, 1);
    assert_eq!(lost(&metrics), (0, 1), "nothing of it can be read");
    assert_eq!(count(&file.connection()), "1");
}

#[tokio::test]
async fn a_log_that_is_lost_over_a_crash_is_said() {
    let file = WarehouseFile::migrated().await;
    let warehouse = file.open();
    warehouse.load(&records(&orders(0..10, 0))).await.unwrap();
    file.connection()
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    warehouse.load(&records(&orders(10..90, 0))).await.unwrap();
    // As a killed process leaves it, but for its log.
    for (with_log, expected, rows) in [(true, (0, 0), "90"), (false, (0, 1), "10")] {
        let copy = WarehouseFile::missing();
        for name in ["warehouse.db", "warehouse.db-shm", "warehouse.db-wal"] {
            if with_log || name != "warehouse.db-wal" {
                std::fs::copy(file.path().with_file_name(name), copy.path().with_file_name(name)).unwrap();
            }
        }
        let metrics = Metrics::new();
        EmbeddedWarehouse::open(&copy.path())
            .counted(&metrics)
            .check()
            .await
            .unwrap();
        assert_eq!(lost(&metrics), expected);
        assert_eq!(count(&copy.connection()), rows, "what is left is used");
    }
}

#[tokio::test]
async fn a_file_that_was_removed_or_replaced_takes_nothing_more() {
    let file = WarehouseFile::migrated().await;
    let warehouse = EmbeddedWarehouse::open(&file.path());
    warehouse.load(&records(&orders(0..10, 0))).await.unwrap();
    let away = file.path().with_file_name("away.db");
    std::fs::rename(file.path(), &away).unwrap();
    for text in ["removed or renamed", "replaced by another"] {
        let error = warehouse.load(&records(&orders(5..12, 0))).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(
            error.retryability(),
            Retryability::Transient,
            "the events stay in the stream"
        );
        assert!(warehouse.check().await.is_err());
        if text.starts_with("removed") {
            assert!(!file.path().exists(), "none is made under its name");
            std::fs::write(file.path(), "").unwrap();
        }
    }
    std::fs::rename(&away, file.path()).unwrap();
    assert_eq!(
        warehouse.load(&records(&orders(5..12, 0))).await.unwrap().inserted,
        2,
        "it is put back"
    );
    // A log alone: what is in it goes into the file before a new one is begun.
    std::fs::remove_file(file.path().with_extension("db-wal")).unwrap();
    assert_eq!(warehouse.load(&records(&orders(12..13, 0))).await.unwrap().inserted, 1);
    let copy = WarehouseFile::missing();
    for name in ["warehouse.db", "warehouse.db-wal"] {
        std::fs::copy(file.path().with_file_name(name), copy.path().with_file_name(name)).unwrap();
    }
    assert_eq!(count(&copy.connection()), "13", "as it would be found after a crash");

    for name in ["warehouse.db", "warehouse.db-wal", "warehouse.db-shm"] {
        std::fs::remove_file(file.path().with_file_name(name)).unwrap();
    }
    assert!(warehouse.load(&records(&orders(5..7, 0))).await.is_err());
    let restarted = EmbeddedWarehouse::open(&file.path());
    assert_eq!(restarted.load(&records(&orders(5..7, 0))).await.unwrap().inserted, 2);
    let mode = |name| std::fs::metadata(file.path().with_file_name(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("warehouse.db"), mode("warehouse.db-wal")), (0o600, 0o600));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("volume");
    let warehouse = EmbeddedWarehouse::open(&place.join("warehouse.db"));
    let error = warehouse.check().await.unwrap_err();
    assert!(matches!(error, WarehouseError::Unreachable { .. }), "{error}");
    std::fs::create_dir(&place).unwrap();
    let batch = orders(0..1, 0);
    assert_eq!(warehouse.load(&records(&batch)).await.unwrap().inserted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_out_and_loses_nothing() {
    let Some(disk) = Tmpfs::mount(16) else { return };
    let path = disk.path().join("warehouse.db");
    let warehouse = EmbeddedWarehouse::open(&path);
    warehouse.migrate().await.unwrap();
    warehouse.load(&records(&orders(0..10, 0))).await.unwrap();
    disk.fill();
    let batch = orders(10..30, 100_000);
    let error = warehouse.load(&records(&batch)).await.unwrap_err();
    assert!(
        matches!(
            error,
            WarehouseError::Unavailable { .. } | WarehouseError::Unreachable { .. }
        ),
        "{error}"
    );
    disk.free();
    let loaded = eventually("loads again", Duration::from_secs(30), async || {
        warehouse.load(&records(&batch)).await.ok()
    })
    .await;
    assert_eq!(loaded.inserted, 20, "nothing of it was there");
    assert_eq!(count(&rusqlite::Connection::open(&path).unwrap()), "30");
}

#[tokio::test]
async fn the_systems_sqlite3_reads_every_view() {
    let file = WarehouseFile::migrated().await;
    file.open().load(&records(&orders(0..3, 0))).await.unwrap();
    for view in [
        "sales",
        "daily_sales",
        "product_sales",
        "customer_orders",
        "hourly_arrivals",
    ] {
        let sql = format!("SELECT * FROM {view}");
        let asked = std::process::Command::new("sqlite3")
            .arg(file.path())
            .arg(&sql)
            .output();
        let Ok(asked) = asked else {
            eprintln!("SKIPPED: sqlite3 is not installed, nothing was tested of it");
            return;
        };
        let errors = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert!(asked.status.success(), "{view}: {errors}");
        let plain = query(&file.connection(), &sql).rows.len();
        assert_eq!(
            String::from_utf8(asked.stdout).unwrap().lines().count(),
            plain,
            "{view}"
        );
    }
}
