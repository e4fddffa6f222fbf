//! A Python with redis-py, as `scripts/test` installs it into `target/python`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The interpreter; installs it where it is missing. `None`, said loudly, where that is impossible.
pub fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON.get_or_init(install).as_deref()
}

fn install() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("python");
    let python = folder.join("bin/python");
    let ok = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    if ok(&python, &["-c", "import redis"]) {
        return Some(python);
    }
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "redis>=5,<8",
    ];
    if ok(Path::new("python3"), &["-m", "venv", &folder.display().to_string()]) && ok(&python, &install) {
        return Some(python);
    }
    eprintln!("SKIPPED: no python3 with venv and pip here: redis-py compatibility is not tested (see scripts/test)");
    None
}
