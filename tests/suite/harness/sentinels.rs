//! A primary, its replica, and three sentinels on free ports of loopback. A sentinel is a redis-server too.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::{FromRedisValue, RedisResult};
use tempfile::TempDir;

use super::ports::reserved_port;
use super::redis::{RedisOptions, RedisServer, ask};
use super::site::PATIENCE;
use super::{eventually, folder};

/// By which the sentinels know the primary.
pub const NAME: &str = "shop";

/// As Redis Sentinel is deployed at the least.
pub struct Sentinels {
    /// Two; which is the primary changes.
    pub servers: [RedisServer; 2],
    pub sentinels: Vec<Sentinel>,
}

impl Sentinels {
    /// Two servers with these options, on TCP; the first is the primary. The sentinels have seen the replica and each
    /// other. `acl`: rules of a further user of the sentinels.
    pub async fn start(options: RedisOptions, acl: Option<&str>) -> Self {
        let options = RedisOptions { tcp: true, ..options };
        let servers = [
            RedisServer::start_with(options.clone()).await,
            RedisServer::start_with(options).await,
        ];
        servers[1].follow(&servers[0]).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Sentinel::start(&servers[0], 2, acl).await);
        }
        let all = Self { servers, sentinels };
        for sentinel in &all.sentinels {
            eventually("a sentinel has seen all others", PATIENCE, async || {
                let info = sentinel.primary().await.ok()?;
                let seen = [&info["num-slaves"], &info["num-other-sentinels"]];
                (seen == ["1", "2"]).then_some(())
            })
            .await;
        }
        all
    }

    /// `host:port` of each, with commas, and the name.
    pub fn hosts(&self) -> String {
        let each: Vec<_> = self.sentinels.iter().map(Sentinel::address).collect();
        format!("{}/{NAME}", each.join(","))
    }

    /// Which of the two the first sentinel names.
    pub async fn primary(&self) -> usize {
        let port = self.sentinels[0].primary().await.unwrap()["port"].clone();
        let named = |server: &RedisServer| server.port().to_string() == port;
        self.servers.iter().position(named).expect("it names another")
    }

    /// Waits until all sentinels that run name that server.
    pub async fn name(&self, primary: usize) {
        let port = self.servers[primary].port().to_string();
        for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.child.is_some()) {
            eventually("the sentinels name the other server", PATIENCE, async || {
                (sentinel.primary().await.ok()?["port"] == port).then_some(())
            })
            .await;
        }
    }

    /// Waits until all name the same server, it is the primary, and the other its replica, which is in step.
    pub async fn is_whole(&self) {
        let is = |info: &redis::InfoDict, name: &str, value: &str| info.get::<String>(name).as_deref() == Some(value);
        eventually("all name a primary that has its replica", PATIENCE, async || {
            let named = self.sentinels[0].primary().await.ok()?["port"].clone();
            for sentinel in &self.sentinels[1..] {
                (sentinel.primary().await.ok()?["port"] == named).then_some(())?;
            }
            for server in &self.servers {
                let info = server.try_command(&["INFO", "replication"]).await.ok()?;
                let is_right = match server.port().to_string() == named {
                    true => is(&info, "role", "master") && is(&info, "connected_slaves", "1"),
                    false => is(&info, "master_port", &named) && is(&info, "master_link_status", "up"),
                };
                is_right.then_some(())?;
            }
            Some(())
        })
        .await;
    }

    /// A planned failover; answers the new primary.
    pub async fn fail_over(&self) -> usize {
        let other = 1 - self.primary().await;
        eventually("a failover begins", PATIENCE, async || {
            let begun: RedisResult<()> = self.sentinels[0].command(&["SENTINEL", "FAILOVER", NAME]).await;
            begun.ok()
        })
        .await;
        self.name(other).await;
        other
    }
}

/// One sentinel.
pub struct Sentinel {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Sentinel {
    /// Watches that server; so many sentinels must agree that it is down.
    pub async fn start(primary: &RedisServer, quorum: u8, acl: Option<&str>) -> Self {
        let (folder, port) = (folder::temporary("sentinel-"), reserved_port());
        let mut lines = vec![
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.path().display()),
            format!("sentinel monitor {NAME} 127.0.0.1 {} {quorum}", primary.port()),
            format!("sentinel down-after-milliseconds {NAME} 3000"),
            format!("sentinel failover-timeout {NAME} 3000"),
        ];
        lines.extend(acl.map(|rules| format!("user {rules}")));
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let program = std::env::var("REDIS_SERVER_BIN").unwrap_or_else(|_| "redis-server".to_owned());
        let child = Command::new(program)
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let sentinel = Self {
            folder,
            port,
            child: Some(child),
        };
        eventually("the sentinel answers", PATIENCE, async || sentinel.primary().await.ok()).await;
        sentinel
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGKILL, for good.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP, or SIGCONT.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("not running");
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    }

    /// What it says of the primary.
    pub async fn primary(&self) -> RedisResult<std::collections::HashMap<String, String>> {
        self.command(&["SENTINEL", "MASTER", NAME]).await
    }

    async fn command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        ask(&format!("redis://{}", self.address()), words).await
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- log of the sentinel on {}:\n{log}", self.port);
        }
    }
}
