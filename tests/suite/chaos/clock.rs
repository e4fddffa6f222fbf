//! A wall clock that jumps: libfaketime, preloaded into processes of ours. Monotonic time goes on as it does in reality.

use std::path::{Path, PathBuf};

use crate::harness::service::Settings;

pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// Right until it jumps; `None`, said loudly, without libfaketime.
    pub fn install(folder: &Path) -> Option<Self> {
        let Some(library) = library() else {
            eprintln!("SKIPPED: no libfaketime here (apt-get install libfaketime): clock jumps are not tested");
            return None;
        };
        let clock = Self {
            library,
            offset: folder.join("clock"),
        };
        clock.jump(0);
        Some(clock)
    }

    /// For a process that is to live by this clock.
    pub fn apply(&self, settings: &Settings) -> Settings {
        settings
            .with("LD_PRELOAD", self.library.to_str().unwrap())
            .with("FAKETIME_TIMESTAMP_FILE", self.offset.to_str().unwrap())
            .with("FAKETIME_CACHE_DURATION", "1")
            .with("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .with("FAKETIME_DONT_RESET", "1")
    }

    /// So many seconds off what is right, from the next second on.
    pub fn jump(&self, seconds: i64) {
        // Renamed, so that nobody reads half of it.
        let fresh = self.offset.with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}")).unwrap();
        std::fs::rename(fresh, &self.offset).unwrap();
    }
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders
        .chain(["/usr/lib".into(), "/usr/local/lib".into()])
        .map(|folder| folder.join("faketime/libfaketime.so.1"))
        .find(|library| library.exists())
}
