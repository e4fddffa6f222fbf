//! A Redis Cluster whose primaries are held to a twentieth of a core each, so that they are what limits: what more of them give.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use redis::{Client, FromRedisValue};
use tokio::process::Command;

use crate::lab::{Lab, trial};
use crate::load::{Load, Pace, Payload};
use crate::orders::Batches;
use crate::process::{Process, eventually};
use crate::redis::free_port;
use crate::results::{Figures, Trial};
use crate::sides::{Services, Side};

const PRIMARIES: [usize; 5] = [1, 2, 3, 4, 6];
/// A power of two, some eight for each primary: then the busiest of six has 11 of 64, and no more than its share by 3 %.
const PARTITIONS: &str = "64";
const SLOTS: usize = 16_384;
/// Many more events wait than fit the flushes that are in flight, and none for longer than a request may take.
const ITEMS: u64 = 64;
const CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for _ in 0..lab.rounds(3) {
        for primaries in PRIMARIES {
            let figures = one(lab, primaries).await?;
            let side = match primaries {
                1 => "orderstream, 1 primary".to_owned(),
                _ => format!("orderstream, {primaries} primaries"),
            };
            trials.push(trial(side, figures));
        }
    }
    Ok(trials)
}

async fn one(lab: &Lab, primaries: usize) -> anyhow::Result<Figures> {
    let nodes = start(lab, primaries).await?;
    let hosts: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let services = Services {
        redis_url: format!("redis+cluster://{}", hosts.join(",")),
        settings: vec![("ORDERSTREAM_PARTITIONS", PARTITIONS.to_owned())],
        ..Services::default()
    };
    let started = lab.programs.start(Side::Orderstream, &services).await?;
    // Only now, so that no start takes twenty times as long.
    let _limits = nodes.iter().map(Limit::new).collect::<anyhow::Result<Vec<_>>>()?;
    let load = Load {
        addr: started.addr,
        pace: Pace::Closed {
            connections: CONNECTIONS,
        },
        idle: 0,
        payload: Payload::Batches(Arc::new(Batches::new(ITEMS))),
        // At this speed a second is little.
        warm_up: lab.plan.warm_up * 2,
        measured: lab.plan.measured * 3,
        at_most: u64::MAX,
        first: 0,
    };
    let mut watched = vec![("side", &started.process)];
    watched.extend(nodes.iter().map(|node| ("redis", &node.process)));
    let figures = lab.measure(load, &watched).await?;
    started.process.end().await?;
    Ok(figures)
}

struct Node {
    port: u16,
    process: Process,
}

impl Node {
    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> anyhow::Result<T> {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        Ok(command.query_async(&mut connection).await?)
    }
}

/// Primaries that share the slots evenly.
async fn start(lab: &Lab, primaries: usize) -> anyhow::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for place in 0..primaries {
        let folder = lab.scratch(&format!("cluster-{place}"));
        // Of the trial before.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let (port, bus) = (free_port()?, free_port()?);
        let program = std::env::var("REDIS_SERVER_BIN").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = Command::new(program);
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--cluster-enabled", "yes", "--cluster-node-timeout", "30000"])
            .args(["--port", &port.to_string(), "--cluster-port", &bus.to_string()])
            .arg("--dir")
            .arg(&folder);
        let process = Process::start(&mut command, &folder.join("log"))?;
        let node = Node { port, process };
        eventually("redis-server answers", PATIENCE, async || {
            node.ask::<String>(&["PING"]).await.ok()
        })
        .await?;
        let edge = |place: usize| place * SLOTS / primaries;
        let (first, last) = (edge(place).to_string(), (edge(place + 1) - 1).to_string());
        let () = node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await?;
        let () = node
            .ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()])
            .await?;
        nodes.push(node);
        let (port, bus) = (port.to_string(), bus.to_string());
        let () = nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await?;
    }
    for node in &nodes {
        eventually("the cluster is whole", PATIENCE, async || {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await.ok()?;
            let known = format!("cluster_known_nodes:{primaries}");
            (info.contains("cluster_state:ok") && info.contains(&known)).then_some(())
        })
        .await?;
    }
    Ok(nodes)
}

/// Holds a process to a twentieth of a core, until it is dropped.
struct Limit {
    folder: PathBuf,
}

impl Limit {
    /// A group of either version of Linux's cgroups.
    ///
    /// # Errors
    /// No right to make one (root has it), or no controller of CPU time.
    fn new(node: &Node) -> anyhow::Result<Self> {
        let name = format!("orderstream-bench-{}", node.port);
        let first = PathBuf::from("/sys/fs/cgroup/cpu");
        let (folder, limits) = match first.is_dir() {
            true => (
                first.join(name),
                [("cpu.cfs_period_us", "20000"), ("cpu.cfs_quota_us", "1000")].as_slice(),
            ),
            false => (
                PathBuf::from("/sys/fs/cgroup").join(name),
                [("cpu.max", "1000 20000")].as_slice(),
            ),
        };
        fs::create_dir(&folder).with_context(|| format!("no group of processes: {}", folder.display()))?;
        let limit = Self { folder };
        for (file, value) in limits {
            let file = limit.folder.join(file);
            fs::write(&file, value).with_context(|| file.display().to_string())?;
        }
        fs::write(limit.folder.join("cgroup.procs"), node.process.id().to_string())?;
        Ok(limit)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // Only an empty group can be removed: its process goes back to where it would be.
        if let Ok(processes) = fs::read_to_string(self.folder.join("cgroup.procs")) {
            let parent = self.folder.with_file_name("cgroup.procs");
            for process in processes.lines() {
                let _ = fs::write(&parent, process);
            }
        }
        let _ = fs::remove_dir(&self.folder);
    }
}
