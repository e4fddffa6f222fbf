//! A spool file that is damaged when its process starts: set aside, said, counted; the process serves.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{Place, are_spooled, deliver, depth_is, figure, health};
use crate::harness::service::Service;

/// Ends with what was spooled either in the warehouse or counted as lost.
async fn through(harm: impl Fn(&Path)) {
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
    let number = |name: &str| report[name].as_u64().unwrap();
    let (lost, depth) = (number("spool_lost"), number("spool_depth"));
    assert!(lost > 0, "{report}");
    assert_eq!(lost + depth, 20, "{report}");
    assert_eq!(
        format!("{:.0}", figure(&service, "orderstream_entries_lost_total").await),
        lost.to_string()
    );
    assert_eq!(deliver(&service, 21).await, (200, "spooled".to_owned()));
    place.site.redis.restart().await;
    depth_is(&service, 0).await;
    place.site.has_rows(usize::try_from(depth).unwrap() + 1).await;
    place.site.is_settled().await;
    assert_eq!(place.site.rows() as u64, depth + 1);
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
    through(|file| {
        // Its log would mend it.
        fs::remove_file(file.with_file_name("spool.db-wal")).unwrap();
        let open = OpenOptions::new().write(true).open(file).unwrap();
        open.write_all_at(b"no database, ", 0).unwrap();
        assert_eq!(set_aside(file), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off() {
    through(|file| {
        let log = file.with_file_name("spool.db-wal");
        let length = fs::metadata(&log).unwrap().len();
        OpenOptions::new()
            .write(true)
            .open(&log)
            .unwrap()
            .set_len(length / 2)
            .unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped() {
    through(|file| {
        let log = file.with_file_name("spool.db-wal");
        let open = OpenOptions::new().read(true).write(true).open(&log).unwrap();
        let place = fs::metadata(&log).unwrap().len() / 2;
        let mut byte = [0];
        open.read_exact_at(&mut byte, place).unwrap();
        open.write_all_at(&[byte[0] ^ 0x40], place).unwrap();
    })
    .await;
}
