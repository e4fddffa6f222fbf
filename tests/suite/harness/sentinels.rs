//! A primary, its replica, and three sentinels on free ports of loopback. A sentinel is a redis-server too.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::{FromRedisValue, RedisResult};
use tempfile::TempDir;
use tokio::time::timeout;

use super::ports::reserved_port;
use super::redis::{RedisOptions, RedisServer, ask};
use super::relays::Relays;
use super::site::PATIENCE;
use super::{eventually, folder};

/// By which the sentinels know the primary.
pub const NAME: &str = "shop";

/// As Redis Sentinel is deployed at the least.
pub struct Sentinels {
    /// Two; which is the primary changes.
    pub servers: [RedisServer; 2],
    pub sentinels: Vec<Sentinel>,
    /// Before the servers, for everybody.
    relays: Relays,
}

impl Sentinels {
    /// Two servers with these options, on TCP; the first is the primary. The sentinels have seen the replica and each
    /// other. `acl`: rules of a further user of the sentinels. With TLS, everybody talks TLS, and names are announced, not
    /// addresses.
    pub async fn start(options: RedisOptions, acl: Option<&str>) -> Self {
        let ports = [reserved_port(), reserved_port()];
        let relays = Relays::before(ports.to_vec());
        let [first, second] = [0, 1].map(|place| {
            let mut options = options.clone();
            (options.tcp, options.port) = (!options.tls, Some(ports[place]));
            options
                .config
                .push(format!("replica-announce-port {}", relays.port(place)));
            if options.tls {
                let lines = ["tls-replication yes", "replica-announce-ip localhost"];
                options.config.extend(lines.map(str::to_owned));
            }
            options.config.extend(Relays::server(place));
            RedisServer::start_with(options)
        });
        let servers = [first.await, second.await];
        servers[1].follow_at(relays.port(0), &servers[0]).await;
        let mut sentinels = Vec::new();
        for place in 2..5 {
            let tls = options.tls.then_some(&servers[0]);
            sentinels.push(Sentinel::start(relays.port(0), place, 2, acl, tls).await);
        }
        let all = Self {
            servers,
            sentinels,
            relays,
        };
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
        let named = |place: &usize| self.port(*place) == port;
        [0, 1].into_iter().find(named).expect("it names another")
    }

    /// The port at which the server at that place is reached.
    pub fn port(&self, place: usize) -> String {
        self.relays.port(place).to_string()
    }

    /// Makes that server the other one's replica, which catches up.
    pub async fn follow(&self, replica: usize) {
        let primary = 1 - replica;
        let port = self.relays.port(primary);
        self.servers[replica].follow_at(port, &self.servers[primary]).await;
    }

    /// Cuts the primary off from its replica and the sentinels, but from no client, until the sentinels name the other
    /// server; answers its place.
    pub async fn cut_off(&self) -> usize {
        let primary = self.primary().await;
        self.relays.cut_off(Some(primary));
        self.name(1 - primary).await;
        primary
    }

    /// Undoes [`Self::cut_off`].
    pub fn join(&self) {
        self.relays.cut_off(None);
    }

    /// Waits until all sentinels that run name that server.
    pub async fn name(&self, primary: usize) {
        let port = self.port(primary);
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
            for (place, server) in self.servers.iter().enumerate() {
                let info = server.try_command(&["INFO", "replication"]).await.ok()?;
                let is_right = match self.port(place) == named {
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
        loop {
            eventually("a failover begins", PATIENCE, async || {
                let begun: RedisResult<()> = self.sentinels[0].command(&["SENTINEL", "FAILOVER", NAME]).await;
                begun.ok()
            })
            .await;
            // It is given up where the replica was away a moment ago.
            if timeout(Duration::from_secs(10), self.name(other)).await.is_ok() {
                return other;
            }
        }
    }
}

/// One sentinel.
pub struct Sentinel {
    folder: TempDir,
    /// Without TLS.
    port: u16,
    tls_port: Option<u16>,
    child: Option<Child>,
}

impl Sentinel {
    /// Watches the primary at that port; so many sentinels must agree that it is down. Relays know it by `place`. `tls`: with
    /// the certificate of that server.
    pub async fn start(primary: u16, place: usize, quorum: u8, acl: Option<&str>, tls: Option<&RedisServer>) -> Self {
        let (folder, port) = (folder::temporary("sentinel-"), reserved_port());
        let tls_port = tls.map(|_| reserved_port());
        let host = if tls.is_some() { "localhost" } else { "127.0.0.1" };
        let mut lines = vec![
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.path().display()),
            Relays::source(place),
            // Names may be given, and are told.
            "sentinel resolve-hostnames yes".to_owned(),
            "sentinel announce-hostnames yes".to_owned(),
            // Otherwise the address that it binds to, at which it does not listen.
            format!("sentinel announce-ip {host}"),
            format!("sentinel monitor {NAME} {host} {primary} {quorum}"),
            format!("sentinel down-after-milliseconds {NAME} 3000"),
            format!("sentinel failover-timeout {NAME} 3000"),
        ];
        if let (Some(server), Some(port)) = (tls, tls_port) {
            lines.push("tls-replication yes".to_owned());
            lines.extend(server.tls_listener(port));
        }
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
            tls_port,
            child: Some(child),
        };
        eventually("the sentinel answers", PATIENCE, async || sentinel.primary().await.ok()).await;
        sentinel
    }

    pub fn address(&self) -> String {
        match self.tls_port {
            Some(port) => format!("localhost:{port}"),
            None => format!("127.0.0.1:{}", self.port),
        }
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
        ask(&format!("redis://127.0.0.1:{}", self.port), words).await
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
