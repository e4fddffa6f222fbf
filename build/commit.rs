//! The commit that is checked out, read from `.git` without a git program.

use std::fs;
use std::path::{Path, PathBuf};

/// The commit of HEAD of the working tree at `root`; `None` where there is none. `watch` is called
/// with each file it was read from, which exist: cargo takes one that does not for changed.
pub(crate) fn checked_out(root: &Path, watch: impl Fn(&Path)) -> Option<String> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path).ok()?;
        watch(path);
        Some(text)
    };
    // In a worktree `.git` is a file that names the folder, and branches are in the common one.
    let folder = match fs::read_to_string(root.join(".git")) {
        Ok(text) => root.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => root.join(".git"),
    };
    let common = match read(&folder.join("commondir")) {
        Some(path) => folder.join(path.trim()),
        None => PathBuf::clone(&folder),
    };
    let head = read(&folder.join("HEAD"))?;
    let Some(branch) = head.trim().strip_prefix("ref: ") else {
        return Some(head.trim().to_owned()); // detached
    };
    if let Some(commit) = read(&common.join(branch)) {
        return Some(commit.trim().to_owned());
    }
    let packed = read(&common.join("packed-refs"))?;
    let mut lines = packed.lines();
    let commit = lines.find_map(|line| line.strip_suffix(branch)?.strip_suffix(' '));
    commit.map(str::to_owned)
}
