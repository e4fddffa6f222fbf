//! A small file system of one's own, to be full on demand. Needs root on Linux.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::geteuid;

/// A tmpfs on a temporary folder; unmounted and removed when dropped, or when this process ends, however it ends.
pub struct Tmpfs {
    path: PathBuf,
    size: String,
    watcher: Child,
}

impl Tmpfs {
    /// With room for so much; `None`, said loudly, where that is not allowed.
    pub fn mount(megabytes: u64) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root may mount a file system: full disks are not tested");
            return None;
        }
        let path = tempfile::Builder::new()
            .prefix("os-full-")
            .tempdir_in("/tmp")
            .unwrap()
            .keep();
        let size = format!("{megabytes}m");
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("mode=755,size={size}"),
                "orderstream-test",
            ])
            .arg(&path)
            .output()
            .unwrap();
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
            eprintln!("SKIPPED: no file system may be mounted here, so full disks are not tested: {why}");
            std::fs::remove_dir(&path).unwrap();
            return None;
        }
        let watcher = Command::new("sh")
            .args(["-c", "cat > /dev/null; umount -l \"$1\"; rmdir \"$1\"", "watcher"])
            .arg(&path)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        Some(Self { path, size, watcher })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves room for nothing more.
    pub fn fill(&self) {
        // What is written in between makes the limit too low, which is refused.
        for _ in 0..50 {
            let used = self.used_kilobytes();
            if self.resize(&format!("{}k", used.max(4))) {
                return;
            }
        }
        panic!("{} is written to faster than it can be filled", self.path.display());
    }

    /// All of its room again.
    pub fn free(&self) {
        assert!(self.resize(&self.size));
    }

    fn resize(&self, size: &str) -> bool {
        let resized = Command::new("mount")
            .args(["-o", &format!("remount,size={size}")])
            .arg(&self.path)
            .stderr(Stdio::null())
            .status();
        resized.unwrap().success()
    }

    fn used_kilobytes(&self) -> u64 {
        let asked = Command::new("df")
            .args(["-k", "--output=used"])
            .arg(&self.path)
            .output()
            .unwrap();
        let text = String::from_utf8(asked.stdout).unwrap();
        text.lines().nth(1).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        self.watcher.wait().unwrap();
    }
}
