//! A redis-server of one's own: on a unix socket in a temporary folder, or on TCP, with TLS, ACL users, an append-only
//! file. Killed for good when dropped. `REDIS_SERVER_BIN` names another server (Redis 8, Valkey).

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orderstream::config::{Durability, RedisConfig, StreamConfig};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use redis::FromRedisValue;
use tempfile::TempDir;

use super::ports::reserved_port;
use super::site::PATIENCE;
use super::{eventually, folder};

/// Bound on connecting, and on one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How the server listens and what it keeps.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// Listens on a free TCP port too.
    pub tcp: bool,
    /// That port, not a free one.
    pub port: Option<u16>,
    /// TLS on that port, with a certificate for `localhost` ([`RedisServer::ca_file`]).
    pub tls: bool,
    /// Signs the certificates; that of a clone is the same.
    pub ca: PrivateCa,
    /// `appendonly yes`, `appendfsync always`: what is confirmed survives SIGKILL.
    pub durable: bool,
    /// Lines of an ACL file; must leave the default user usable, since the harness asks as that.
    pub acl: Vec<String>,
    /// Further lines of the configuration file.
    pub config: Vec<String>,
}

impl RedisOptions {
    /// What it confirms survives SIGKILL.
    pub fn durable() -> Self {
        Self {
            durable: true,
            ..Self::default()
        }
    }
}

pub struct RedisServer {
    folder: TempDir,
    options: RedisOptions,
    port: Option<u16>,
    child: Option<Child>,
}

impl RedisServer {
    /// On a unix socket, keeping nothing.
    pub async fn start() -> Self {
        Self::start_with(RedisOptions::default()).await
    }

    pub async fn start_with(options: RedisOptions) -> Self {
        let started = Self::try_start(options).await;
        started.unwrap_or_else(|log| panic!("redis-server does not start:\n{log}"))
    }

    /// With TLS and a CA of its own; `None`, said loudly, where the server was built without it.
    pub async fn start_tls() -> Option<Self> {
        let options = RedisOptions {
            tls: true,
            ..RedisOptions::default()
        };
        match Self::try_start(options).await {
            Ok(server) => Some(server),
            Err(log) if log.contains("CONFIG FILE ERROR") || log.contains("Failed finding TLS") => {
                eprintln!("SKIPPED: this redis-server was built without TLS: connections over TLS are not tested");
                None
            }
            Err(log) => panic!("redis-server does not start:\n{log}"),
        }
    }

    async fn try_start(options: RedisOptions) -> Result<Self, String> {
        let folder = folder::temporary("redis-");
        if options.tls {
            options.ca.certify(folder.path());
        }
        if !options.acl.is_empty() {
            std::fs::write(folder.path().join("users.acl"), options.acl.join("\n") + "\n").unwrap();
        }
        let mut server = Self {
            folder,
            options,
            port: None,
            child: None,
        };
        if server.options.tcp || server.options.tls {
            server.port = Some(server.options.port.unwrap_or_else(reserved_port));
        }
        if server.spawn(is_ready).await {
            return Ok(server);
        }
        Err(server.log())
    }

    /// Sets `maxmemory` so that this many bytes are left.
    pub async fn leave_memory(&self, bytes: u64) {
        let info: redis::InfoDict = self.command(&["INFO", "memory"]).await;
        let limit = info.get::<u64>("used_memory").unwrap() + bytes;
        self.command::<()>(&["CONFIG", "SET", "maxmemory", &limit.to_string()])
            .await;
    }

    /// SIGKILL, as a crash.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts again what was killed, on the same sockets and files; without what the kill tore, as OPERATIONS ("Redis
    /// crashed") says.
    pub async fn restart(&mut self) {
        self.kill();
        let manifest = self.folder.path().join("appendonlydir/appendonly.aof.manifest");
        if manifest.exists() {
            let mut check = Command::new("redis-check-aof");
            check
                .arg("--fix")
                .arg(&manifest)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut check = check.spawn().unwrap();
            // Where nothing is torn it asks nothing, and may be gone by now.
            let _ = check.stdin.take().unwrap().write_all(b"y\n");
            let checked = check.wait_with_output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        }
        let started = self.spawn(is_ready).await;
        assert!(started, "redis-server does not start again:\n{}", self.log());
    }

    /// As [`restart`](Self::restart), until it answers LOADING. `key-load-delay` (microseconds a key) keeps it at that,
    /// and may be set while it loads.
    pub async fn restart_loading(&mut self) {
        self.kill();
        let loads = |answer: &redis::RedisResult<String>| {
            let error = answer.as_ref().err();
            error.is_some_and(|error| error.code() == Some("LOADING"))
        };
        let started = self.spawn(loads).await;
        assert!(started, "redis-server does not start again:\n{}", self.log());
    }

    /// Its append-only file ends so many bytes earlier, as after a crash amid a write. For a server that was killed.
    pub fn tear(&self, bytes: u64) {
        let folder = self.folder.path().join("appendonlydir");
        let mut files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let is_written_to = |file: &std::path::PathBuf| file.to_str().unwrap().ends_with(".incr.aof");
        let file = std::fs::File::options()
            .write(true)
            .open(files.find(is_written_to).unwrap())
            .unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn stall(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Becomes a replica of that server, which listens on TCP, and catches up.
    pub async fn follow(&self, primary: &Self) {
        self.follow_at(primary.port(), primary).await;
    }

    /// As [`Self::follow`], of a server that is reached at another port than its own.
    pub async fn follow_at(&self, port: u16, primary: &Self) {
        // Otherwise it waits for further replicas before it sends.
        let at_once = ["CONFIG", "SET", "repl-diskless-sync-delay", "0"];
        primary.command::<()>(&at_once).await;
        let follow = ["REPLICAOF", "127.0.0.1", &port.to_string()];
        self.command::<()>(&follow).await;
        self.has_all_of(primary).await;
    }

    /// Replicates nothing of that primary any more, as where it is cut off, until [`Self::may_follow`].
    pub async fn leave(&self, primary: &Self) {
        // Without passwords any is a wrong one.
        self.command::<()>(&["CONFIG", "SET", "masterauth", "wrong"]).await;
        primary.command::<u64>(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    }

    pub async fn may_follow(&self) {
        self.command::<()>(&["CONFIG", "SET", "masterauth", ""]).await;
    }

    /// Waits until everything that the primary took is here.
    pub async fn has_all_of(&self, primary: &Self) {
        eventually("the replica is in step", PATIENCE, async || {
            // A server that loads what it was sent may be slow to answer.
            let (ours, theirs) = (self.replication().await.ok()?, primary.replication().await.ok()?);
            let offset = |info: &redis::InfoDict| info.get::<u64>("master_repl_offset");
            let is_up = ours.get::<String>("master_link_status").as_deref() == Some("up");
            (is_up && offset(&ours) == offset(&theirs)).then_some(())
        })
        .await;
    }

    async fn replication(&self) -> redis::RedisResult<redis::InfoDict> {
        self.try_command(&["INFO", "replication"]).await
    }

    /// URL of the unix socket.
    pub fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }

    /// Of the TCP listener.
    pub fn port(&self) -> u16 {
        self.port.expect("started without TCP")
    }

    /// `host:port` of the TCP listener.
    pub fn tcp_address(&self) -> String {
        format!("localhost:{}", self.port())
    }

    /// The CA that signed the server's certificate.
    pub fn ca_file(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Configuration to reach it.
    pub fn config(&self) -> RedisConfig {
        RedisConfig {
            url: self.url().into(),
            ca_file: None,
            pool_size: 8,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(10),
            durability: Durability::Received,
        }
    }

    /// Sends one command as another program would.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).await.unwrap()
    }

    pub async fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        ask(&self.url(), words).await
    }

    /// Starts it and waits until its answer to PING is as wanted; answers false where it ended.
    async fn spawn(&mut self, wanted: fn(&redis::RedisResult<String>) -> bool) -> bool {
        let folder = self.folder.path();
        std::fs::write(folder.join("redis.conf"), self.settings()).unwrap();
        let program = std::env::var("REDIS_SERVER_BIN").unwrap_or_else(|_| "redis-server".to_owned());
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let mut child = Command::new(&program)
            .arg(folder.join("redis.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program} (set REDIS_SERVER_BIN): {error}"));
        let ready = eventually("redis-server is ready or gone", PATIENCE, async || {
            if wanted(&self.try_command::<String>(&["PING"]).await) {
                return Some(true);
            }
            child.try_wait().unwrap().map(|_| false)
        })
        .await;
        self.child = Some(child);
        ready
    }

    /// Lines of the configuration of a listener with its certificate.
    pub fn tls_listener(&self, port: u16) -> [String; 5] {
        let folder = self.folder.path().display();
        [
            format!("tls-port {port}"),
            "tls-auth-clients no".to_owned(),
            format!("tls-ca-cert-file {folder}/ca.pem"),
            format!("tls-cert-file {folder}/server.pem"),
            format!("tls-key-file {folder}/server.key"),
        ]
    }

    fn settings(&self) -> String {
        let folder = self.folder.path().display();
        let mut lines = vec![
            format!("dir {folder}"),
            format!("unixsocket {folder}/redis.sock"),
            "save \"\"".to_owned(),
            "maxmemory-policy noeviction".to_owned(),
        ];
        match (self.port, self.options.tls) {
            (None, _) => lines.push("port 0".to_owned()),
            (Some(port), false) => lines.push(format!("port {port}")),
            (Some(port), true) => {
                lines.push("port 0".to_owned());
                lines.extend(self.tls_listener(port));
            }
        }
        if self.options.durable {
            lines.extend(["appendonly yes".to_owned(), "appendfsync always".to_owned()]);
        }
        if !self.options.acl.is_empty() {
            lines.push(format!("aclfile {folder}/users.acl"));
        }
        lines.extend(self.options.config.iter().cloned());
        lines.join("\n") + "\n"
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("not running");
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Stream settings of a test: the documented names, small caps.
pub fn stream_config() -> StreamConfig {
    StreamConfig {
        name: "orders_stream".to_owned(),
        group: "pipeline_workers".to_owned(),
        dead_letters: "dead_letters".to_owned(),
        partitions: None,
        maxlen: 100_000,
        retain_acked: 10_000,
        dead_letters_maxlen: 10_000,
        dedupe_window: Some(Duration::from_secs(6 * 3600)),
    }
}

/// Sends one command to that server.
pub async fn ask<T: FromRedisValue>(url: &str, words: &[&str]) -> redis::RedisResult<T> {
    let client = redis::Client::open(url)?;
    // The client's own limits, a second to connect among them, are too short for a busy machine.
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_LIMIT))
        .set_response_timeout(Some(ANSWER_LIMIT));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query_async(&mut connection).await
}

fn is_ready(answer: &redis::RedisResult<String>) -> bool {
    answer.is_ok()
}

/// A CA of one's own, made when it is first used.
#[derive(Clone, Default)]
pub struct PrivateCa(Arc<OnceLock<(Certificate, Issuer<'static, KeyPair>)>>);

impl PrivateCa {
    /// Writes its certificate, and one for `localhost` that it signed.
    fn certify(&self, folder: &Path) {
        let (ca, issuer) = self.0.get_or_init(|| {
            let key = KeyPair::generate().unwrap();
            let mut ca = CertificateParams::new(Vec::new()).unwrap();
            ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            // Otherwise OpenSSL takes what it signed for self-signed.
            ca.distinguished_name.push(DnType::CommonName, "a private CA");
            (ca.self_signed(&key).unwrap(), Issuer::new(ca, key))
        });
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = server.signed_by(&key, issuer).unwrap();
        std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
        std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    }
}

impl std::fmt::Debug for PrivateCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateCa")
    }
}
