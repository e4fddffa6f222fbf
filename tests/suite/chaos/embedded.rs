//! The scene of a newcomer: one `run` that keeps stream and warehouse in its data folder, on a small disk of its own.

use std::path::PathBuf;

use tempfile::TempDir;

use super::clock::Clock;
use super::fault::{self, Fault, Planned};
use super::oracle::Ends;
use super::plant::{Door, OneAtATime, Plant, Process, clock_suffers, disk_suffers};
use super::sqlite;
use crate::harness::eventually;
use crate::harness::service::Settings;
use crate::harness::site::PATIENCE;
use crate::harness::tmpfs::Tmpfs;

/// Megabytes; only what is used is taken from memory.
const ROOM: u64 = 4_096;

/// Everything in one process.
pub struct Embedded {
    run: Process,
    files: PathBuf,
    clock: Option<Clock>,
    disk: Option<Tmpfs>,
    suffering: OneAtATime,
    _folder: TempDir,
}

impl Embedded {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::install(folder.path());
        let disk = Tmpfs::mount(ROOM);
        let files = disk.as_ref().map_or(folder.path(), Tmpfs::path).join("files");
        let settings = Settings::embedded()
            .with("ORDERSTREAM_DATA_DIR", files.to_str().unwrap())
            .with("ORDERSTREAM_KEEP_RAW", "full")
            .with("ORDERSTREAM_DEAD_LETTERS_MAXLEN", "1000000")
            .with("ORDERSTREAM_READ_COUNT", "100")
            .with("ORDERSTREAM_WORKERS", "2")
            .with("ORDERSTREAM_SHUTDOWN_GRACE", "5s")
            .with("RUST_LOG", "info");
        let settings = clock.as_ref().map_or(settings.clone(), |clock| clock.apply(&settings));
        Self {
            run: Process::start("run", settings).await,
            files,
            clock,
            disk,
            suffering: OneAtATime::new(),
            _folder: folder,
        }
    }
}

impl Plant for Embedded {
    fn title(&self) -> &'static str {
        "Embedded stream and warehouse"
    }

    fn deck(&self) -> Vec<Fault> {
        fault::for_files(self.clock.is_some(), self.disk.is_some())
    }

    async fn suffer(&self, planned: &Planned) {
        let Planned { fault, lasts, .. } = *planned;
        let _alone = self.suffering.turn(fault.target()).await;
        match fault {
            Fault::DiskFull(_) => disk_suffers(self.disk.as_ref(), lasts).await,
            Fault::ClockJumps(_) => clock_suffers(self.clock.as_ref(), fault, lasts).await,
            _ => self.run.suffer(fault, lasts).await,
        }
    }

    async fn doors(&self) -> Vec<Door> {
        vec![self.run.door().await]
    }

    async fn redis(&self) -> Option<redis::Client> {
        None
    }

    async fn settles(&self) {
        eventually("all entries are read and acked", 2 * PATIENCE, async || {
            sqlite::is_read_and_acked(&self.files.join("stream.db")).then_some(())
        })
        .await;
    }

    async fn ends(&self) -> Ends {
        Ends {
            letters: sqlite::letters(&self.files.join("stream.db")),
            ..sqlite::warehouse(&self.files.join("warehouse.db"))
        }
    }

    async fn reported(&self) -> u64 {
        self.run.figure("orderstream_entries_lost_total").await
    }

    async fn signs(&self) -> Vec<(&'static str, u64)> {
        let off = sqlite::received_off_the_clock(&self.files.join("warehouse.db"));
        vec![("events received while the clock was wrong", off)]
    }
}
