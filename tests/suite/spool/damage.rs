//! A spool file that is damaged when its process starts: set aside, said, counted; the process serves.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{Place, are_spooled, deliver, depth_is, figure, health};
use crate::harness::eventually;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

/// What the process says of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Exactly(u64),
    Unknown,
}

/// Ends with what was spooled either in the warehouse or said to be lost.
async fn through(harm: impl Fn(&Path), expected: Said) {
    let mut place = Place::new().await;
    let settings = place.settings();
    let mut service = Service::start("serve", &settings).await;
    place.site.redis.kill();
    are_spooled(&service, 1..=20).await;
    service.kill();
    harm(&place.folder.path().join("spool.db"));

    let service = Service::start("run", &settings).await;
    let said = service.says("ERROR").await;
    assert!(said.contains("spool.db"), "{said}");
    let report = health(&service).await;
    let depth = report["spool_depth"].as_u64().unwrap();
    let metrics = async |name: &str| figure(&service, name).await as u64;
    let counted = (
        metrics("orderstream_entries_lost_total").await,
        metrics("orderstream_losses_unknown_total").await,
    );
    match expected {
        Said::Exactly(lost) => {
            assert_eq!(
                (report["spool_lost"].as_u64(), lost + depth),
                (Some(lost), 20),
                "{report}"
            );
            assert_eq!(counted, (lost, 0));
        }
        Said::Unknown => {
            assert_eq!(report["spool_lost"], serde_json::Value::Null, "{report}");
            assert!(depth < 20, "{report}");
            assert_eq!(counted, (0, 1));
        }
    }
    assert_eq!(deliver(&service, 21).await, (200, "spooled".to_owned()));
    place.site.redis.restart().await;
    depth_is(&service, 0).await;
    place.site.has_rows(usize::try_from(depth).unwrap() + 1).await;
    place.site.is_settled().await;
    assert_eq!(place.site.rows() as u64, depth + 1);
    // Nothing waits any more, and it is no less lost.
    let warnings = async || {
        let spool = service.health_check("spool").await?;
        spool["detail"].as_str().unwrap().contains("were lost").then_some(spool)
    };
    let check = eventually("health says it", PATIENCE, warnings).await;
    assert_eq!(check["status"], "warning");
    let is_unknown = check["detail"].as_str().unwrap().contains("an unknown number");
    assert_eq!(is_unknown, expected == Said::Unknown, "{check}");
}

fn set_aside(file: &Path) -> usize {
    let names = fs::read_dir(file.parent().unwrap()).unwrap();
    let is_damaged = |name: &str| name.starts_with("spool.db.damaged-");
    names
        .filter(|entry| is_damaged(entry.as_ref().unwrap().file_name().to_str().unwrap()))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten() {
    let harm = |file: &Path| {
        // Its log would mend it.
        fs::remove_file(file.with_file_name("spool.db-wal")).unwrap();
        let open = OpenOptions::new().write(true).open(file).unwrap();
        open.write_all_at(b"no database, ", 0).unwrap();
        assert_eq!(set_aside(file), 0);
    };
    through(harm, Said::Unknown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off() {
    let harm = |file: &Path| {
        let log = file.with_file_name("spool.db-wal");
        let length = fs::metadata(&log).unwrap().len();
        OpenOptions::new()
            .write(true)
            .open(&log)
            .unwrap()
            .set_len(length / 2)
            .unwrap();
    };
    through(harm, Said::Unknown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped() {
    let harm = |file: &Path| {
        let log = file.with_file_name("spool.db-wal");
        let open = OpenOptions::new().read(true).write(true).open(&log).unwrap();
        let place = fs::metadata(&log).unwrap().len() / 2;
        let mut byte = [0];
        open.read_exact_at(&mut byte, place).unwrap();
        open.write_all_at(&[byte[0] ^ 0x40], place).unwrap();
    };
    through(harm, Said::Unknown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_behind_its_counts() {
    let harm = |file: &Path| {
        let connection = rusqlite::Connection::open(file).unwrap();
        let fold = "PRAGMA wal_checkpoint(TRUNCATE)";
        connection.query_row(fold, [], |_| Ok(())).unwrap();
        drop(connection);
        let length = fs::metadata(file).unwrap().len();
        let open = OpenOptions::new().write(true).open(file).unwrap();
        open.set_len(length - 8192).unwrap();
    };
    through(harm, Said::Exactly(20)).await;
}
