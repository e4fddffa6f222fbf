//! Processes under measurement: started in a group of their own, killed with it, read from /proc.

use std::collections::HashMap;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};
use tokio::process::{Child, Command};

/// A process and all it starts; ends when dropped.
pub struct Process {
    child: Child,
    pid: i32,
}

impl Process {
    /// Standard output and error go to `log`.
    pub fn start(command: &mut Command, log: &std::path::Path) -> anyhow::Result<Self> {
        let log = fs::File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
        let pid = child.id().context("ended at once")?.try_into()?;
        Ok(Self { child, pid })
    }

    pub fn id(&self) -> i32 {
        self.pid
    }

    pub fn is_running(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| !stat.is_dead)
    }

    /// As an operator ends it; killed where that takes more than half a minute.
    pub async fn end(mut self) -> anyhow::Result<()> {
        nix::sys::signal::kill(Pid::from_raw(self.pid), Signal::SIGTERM)?;
        if tokio::time::timeout(Duration::from_secs(30), self.child.wait())
            .await
            .is_err()
        {
            self.kill().await?;
        }
        Ok(())
    }

    /// As a crash ends it.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        killpg(Pid::from_raw(self.pid), Signal::SIGKILL)?;
        self.child.wait().await?;
        Ok(())
    }

    /// CPU time used by it and all its descendants, the dead ones too, seconds.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        cpu_seconds(self.pid)
    }

    /// Most memory it ever had, summed over its living descendants, MB (10^6 bytes).
    pub fn peak_megabytes(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    /// Memory it has now, likewise.
    pub fn megabytes(&self) -> anyhow::Result<f64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> anyhow::Result<f64> {
        let family = family(self.pid)?;
        let kib = family.iter().filter_map(|stat| {
            let status = fs::read_to_string(format!("/proc/{}/status", stat.pid)).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        });
        Ok(kib.sum::<f64>() * 1.024e-3)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
    }
}

/// CPU time of this process itself: the load generator's.
pub fn own_cpu_seconds() -> anyhow::Result<f64> {
    let own = Stat::read(std::process::id().try_into()?).context("/proc/self/stat")?;
    seconds(own.ticks)
}

fn cpu_seconds(root: i32) -> anyhow::Result<f64> {
    let family = family(root)?;
    seconds(family.iter().map(|stat| stat.ticks + stat.dead_childrens_ticks).sum())
}

fn seconds(ticks: u64) -> anyhow::Result<f64> {
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(ticks as f64 / per_second as f64)
}

/// One line of /proc/PID/stat.
struct Stat {
    pid: i32,
    parent: i32,
    /// Ended, and not waited for yet.
    is_dead: bool,
    ticks: u64,
    dead_childrens_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |nth: usize| fields.get(nth)?.parse::<u64>().ok();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            is_dead: *fields.first()? == "Z",
            ticks: number(11)? + number(12)?,
            dead_childrens_ticks: number(13)? + number(14)?,
        })
    }
}

/// A process and its descendants.
fn family(root: i32) -> anyhow::Result<Vec<Stat>> {
    let mut by_parent: HashMap<i32, Vec<Stat>> = HashMap::new();
    let mut family = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(stat) = name.to_str().and_then(|name| name.parse().ok()).and_then(Stat::read) else {
            continue;
        };
        if stat.pid == root {
            family.push(stat);
        } else {
            by_parent.entry(stat.parent).or_default().push(stat);
        }
    }
    if family.is_empty() {
        bail!("process {root} is gone");
    }
    let mut at = 0;
    while let Some(stat) = family.get(at) {
        let children = by_parent.remove(&stat.pid).unwrap_or_default();
        family.extend(children);
        at += 1;
    }
    Ok(family)
}

/// Asks until it answers.
pub async fn eventually<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
