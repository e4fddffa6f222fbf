//! What the figures were measured on, and of what.

use std::fs;
use std::path::Path;
use std::process::Command;

use time::OffsetDateTime;

/// One line: processor, cores, memory, kernel, the versions of what takes part, the commit of the repository at `root`,
/// and today's date (UTC).
pub fn describe(root: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unknown processor".to_owned());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|kib| kib.split(' ').next()?.parse::<u64>().ok())
        .map_or_else(String::new, |kib| format!(", {} GB", kib / 1_000_000));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let versions = [
        version("redis-server", &["--version"], "v=", "Redis "),
        version("psql", &["--version"], "(PostgreSQL) ", "PostgreSQL "),
        version("node", &["--version"], "v", "Node.js "),
        version("python3", &["--version"], "Python ", "Python "),
        version("rustc", &["--version"], "rustc ", "Rust "),
    ];
    format!(
        "{cores} cores of {processor}{memory}, Linux {}, {}; {} of {}",
        kernel.split('-').next().unwrap_or_default().trim(),
        versions.into_iter().flatten().collect::<Vec<_>>().join(", "),
        commit(root).unwrap_or_else(|| "an unknown commit".to_owned()),
        OffsetDateTime::now_utc().date(),
    )
}

/// The short hash, with `-dirty` behind it where a tracked file differs from it.
fn commit(root: &Path) -> Option<String> {
    let describe = ["describe", "--always", "--dirty", "--exclude=*"];
    let output = Command::new("git").arg("-C").arg(root).args(describe).output().ok()?;
    let hash = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    Some(hash).filter(|hash| !hash.is_empty())
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The word behind `mark` in what a program prints.
fn version(program: &str, args: &[&str], mark: &str, shown: &str) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_once(mark)?.1.split_whitespace().next()?;
    Some(format!("{shown}{version}"))
}
