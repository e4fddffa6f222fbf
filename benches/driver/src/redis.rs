//! The redis-server that all sides share: one at a time, emptied between them.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamInfoGroupsReply;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tokio::process::Command;

use crate::process::{Process, eventually};

pub const STREAM: &str = "orders_stream";
pub const GROUP: &str = "pipeline_workers";

/// When Redis writes to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    Off,
    Everysec,
    Always,
}

impl Persistence {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Off => &["--appendonly", "no"],
            Self::Everysec => &["--appendonly", "yes", "--appendfsync", "everysec"],
            Self::Always => &["--appendonly", "yes", "--appendfsync", "always"],
        }
    }
}

pub struct Redis {
    folder: PathBuf,
    port: u16,
    persistence: Persistence,
    process: Option<Process>,
}

impl Redis {
    pub async fn start(folder: PathBuf, persistence: Persistence) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let mut redis = Self {
            folder,
            port: free_port()?,
            persistence,
            process: None,
        };
        redis.restart().await?;
        Ok(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("Redis is not running")
    }

    /// As a crash.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Starts what was killed, on the same port; empty where it keeps nothing on disk.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill().await?;
        let program = std::env::var("REDIS_SERVER_BIN").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = Command::new(program);
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--maxmemory-policy",
                "noeviction",
                "--port",
            ])
            .arg(self.port.to_string())
            .arg("--dir")
            .arg(&self.folder)
            .args(self.persistence.settings());
        self.process = Some(Process::start(&mut command, &self.folder.join("log"))?);
        eventually("redis-server answers", Duration::from_secs(60), async || {
            let mut connection = self.connect().await.ok()?;
            let answer: redis::RedisResult<String> = redis::cmd("PING").query_async(&mut connection).await;
            answer.ok()
        })
        .await?;
        Ok(())
    }

    pub async fn connect(&self) -> anyhow::Result<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
        let client = Client::open(self.url())?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// Forgets everything; its append-only file too.
    pub async fn clear(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let () = redis::cmd("FLUSHALL").query_async(&mut connection).await?;
        if self.persistence != Persistence::Off {
            // Refused while Redis is at a rewrite of its own.
            let asked = async || {
                redis::cmd("BGREWRITEAOF")
                    .query_async::<()>(&mut connection.clone())
                    .await
                    .ok()
            };
            eventually("a rewrite is begun", Duration::from_secs(60), asked).await?;
            let rewriting = async || {
                let info: String = redis::cmd("INFO")
                    .arg("persistence")
                    .query_async(&mut connection.clone())
                    .await
                    .ok()?;
                let idle = info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0");
                idle.then_some(())
            };
            eventually("the append-only file is rewritten", Duration::from_secs(60), rewriting).await?;
        }
        Ok(())
    }

    /// Removes the entries, and nothing beside them.
    pub async fn clear_stream(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let mut trim = redis::cmd("XTRIM");
        trim.arg(STREAM).arg("MAXLEN").arg(0);
        let _: u64 = trim.query_async(&mut connection).await?;
        Ok(())
    }

    /// Entries in the stream.
    pub async fn length(&self) -> anyhow::Result<u64> {
        let mut connection = self.connect().await?;
        Ok(redis::cmd("XLEN").arg(STREAM).query_async(&mut connection).await?)
    }

    /// Puts the group back to the beginning, as if nothing had been read.
    pub async fn rewind(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let group = |verb: &str| {
            let mut command = redis::cmd("XGROUP");
            command.arg(verb).arg(STREAM).arg(GROUP);
            command
        };
        let (destroy, mut create) = (group("DESTROY"), group("CREATE"));
        create.arg("0").arg("MKSTREAM");
        let _: redis::RedisResult<i64> = destroy.query_async(&mut connection).await;
        let () = create.query_async(&mut connection).await?;
        Ok(())
    }
}

/// Entries that the group has read and acked; none where Redis came back empty and nobody has made the stream again.
pub async fn acked(connection: &mut MultiplexedConnection) -> anyhow::Result<u64> {
    let mut groups = redis::cmd("XINFO");
    let groups: RedisResult<StreamInfoGroupsReply> = groups.arg("GROUPS").arg(STREAM).query_async(connection).await;
    let groups = match groups {
        Err(error) if error.detail() == Some("no such key") => return Ok(0),
        groups => groups?,
    };
    let ours = groups.groups.into_iter().find(|group| group.name == GROUP);
    Ok(ours.map_or(0, |group| {
        (group.entries_read.unwrap_or_default() as u64).saturating_sub(group.pending as u64)
    }))
}

/// Free a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
