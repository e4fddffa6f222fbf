//! Temporary folders in memory, where there is room.
//!
//! A process that is killed loses nothing that it wrote, in memory as on a disk. What differs is fsync, which a busy
//! disk answers seconds late: later than our own time limits.

use std::process::Command;
use std::sync::OnceLock;

use tempfile::{Builder, TempDir};

const MEMORY: &str = "/dev/shm";
/// Kilobytes that must be free there; containers have 64 MiB unless told otherwise.
const ROOM: u64 = 1 << 20;

/// A folder whose name begins so; on the disk where memory has no room.
pub fn temporary(prefix: &str) -> TempDir {
    let mut builder = Builder::new();
    builder.prefix(prefix);
    let in_memory = has_room().then(|| builder.tempdir_in(MEMORY).ok()).flatten();
    in_memory.unwrap_or_else(|| builder.tempdir().unwrap())
}

fn has_room() -> bool {
    static HAS_ROOM: OnceLock<bool> = OnceLock::new();
    *HAS_ROOM.get_or_init(|| {
        let asked = Command::new("df").args(["-k", "--output=avail", MEMORY]).output();
        let text = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let free = text
            .ok()
            .and_then(|text| text.lines().nth(1)?.trim().parse::<u64>().ok());
        free.is_some_and(|free| free >= ROOM)
    })
}
