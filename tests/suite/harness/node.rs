//! A Node with ioredis, as `scripts/test` installs it into `target/node` where Node and npm are there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Whether there is a Node that has `fetch`, and said loudly where not.
pub fn has_node() -> bool {
    static NODE: OnceLock<bool> = OnceLock::new();
    *NODE.get_or_init(|| {
        let found = succeeds(Command::new("node").args(["-e", "fetch"]));
        if !found {
            eprintln!("SKIPPED: no Node 18 or newer here: its examples are not tested");
        }
        found
    })
}

/// A folder of modules with ioredis; installs it where it is missing. `None`, said loudly, where that is impossible.
pub fn ioredis() -> Option<&'static Path> {
    static MODULES: OnceLock<Option<PathBuf>> = OnceLock::new();
    MODULES.get_or_init(install).as_deref().filter(|_| has_node())
}

fn install() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("node");
    let modules = folder.join("node_modules");
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
    if modules.join("ioredis").is_dir() || succeeds(npm.arg(&folder).arg("ioredis@5")) {
        return Some(modules);
    }
    eprintln!("SKIPPED: no ioredis can be installed here: examples/read_stream.js is not tested");
    None
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
