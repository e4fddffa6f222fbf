//! The sides of a comparison: how each is started.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use tokio::process::Command;

use crate::http::Connection;
use crate::orders::{SECRET, TOKEN};
use crate::process::{Process, eventually};
use crate::redis::{Redis, free_port};

/// One of the programs that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `orderstream serve`, dedupe on.
    Orderstream,
    /// The same with `ORDERSTREAM_DEDUPE_BY=off`.
    DedupeOff,
    /// The same with `ORDERSTREAM_KEEP_RAW=redacted`.
    RawRedacted,
    /// The same with `ORDERSTREAM_KEEP_RAW=full`.
    RawFull,
    /// `orderstream run`: workers in the same process.
    Run,
    /// One pooled connection and one XADD a request, in Rust; an entry of four fields with a small event.
    Naive,
    /// The same with the entry that orderstream writes.
    NaiveWhole,
    /// FastAPI on two uvicorn workers, redis-py.
    Fastapi,
    /// Fastify in two processes, ioredis.
    Fastify,
    /// The HTTP stack alone.
    Floor,
    /// The HTTP stack and the signature.
    FloorVerified,
}

impl Side {
    /// What it is called in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orderstream => "orderstream",
            Self::DedupeOff => "orderstream, dedupe off",
            Self::RawRedacted => "orderstream, KEEP_RAW=redacted",
            Self::RawFull => "orderstream, KEEP_RAW=full",
            Self::Run => "orderstream run",
            Self::Naive => "naive Rust",
            Self::NaiveWhole => "naive Rust, the same entry",
            Self::Fastapi => "FastAPI + redis-py",
            Self::Fastify => "Fastify + ioredis",
            Self::Floor => "floor: read and answer",
            Self::FloorVerified => "floor: read, verify, answer",
        }
    }

    fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Orderstream | Self::DedupeOff | Self::RawRedacted | Self::RawFull | Self::Run
        )
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `orderstream`, as it is packaged.
    pub orderstream: PathBuf,
    /// The folder of the other Rust sides.
    pub release: PathBuf,
    /// The virtual environment of the Python side.
    pub python: PathBuf,
    /// The folder of the FastAPI side.
    pub fastapi: PathBuf,
    /// The folder of the Fastify side, with its packages installed.
    pub fastify: PathBuf,
    /// The folder of all rivals.
    pub rivals: PathBuf,
    /// Logs and files of all that runs.
    pub scratch: PathBuf,
}

/// What a side connects to.
#[derive(Debug, Clone, Default)]
pub struct Services {
    pub redis_url: String,
    pub database_url: Option<String>,
    /// Turns the spool on.
    pub spool: Option<PathBuf>,
    /// Further settings of orderstream.
    pub settings: Vec<(&'static str, String)>,
}

impl Services {
    /// Only that Redis.
    pub fn redis(redis: &Redis) -> Self {
        Self {
            redis_url: redis.url(),
            ..Self::default()
        }
    }
}

/// A side that answers.
pub struct Started {
    pub process: Process,
    pub addr: SocketAddr,
}

impl Programs {
    /// Starts a side on a free port and waits until it answers.
    pub async fn start(&self, side: Side, services: &Services) -> anyhow::Result<Started> {
        let port = free_port()?;
        let mut command = self.command(side, services, port)?;
        command.env("REDIS_URL", &services.redis_url);
        let log = self.scratch.join("sides.log");
        let process = Process::start(&mut command, &log)?;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        // All answer something to this; the two processes of some sides share the port, and both are there by then.
        eventually(side.name(), Duration::from_secs(30), async || {
            let mut connection = Connection::open(addr).await.ok()?;
            let request = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
            connection.exchange(request, &[], &[]).await.ok()
        })
        .await?;
        ensure!(process.is_running(), "{} ended: see {}", side.name(), log.display());
        if matches!(side, Side::Fastapi | Side::Fastify) {
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        Ok(Started { process, addr })
    }

    /// `orderstream work` with so many workers.
    pub fn start_workers(&self, services: &Services, workers: usize) -> anyhow::Result<Process> {
        let mut command = self.orderstream("work", services)?;
        command
            .env("REDIS_URL", &services.redis_url)
            .env("ORDERSTREAM_WORKERS", workers.to_string());
        Process::start(&mut command, &self.scratch.join("sides.log"))
    }

    /// `orderstream capture`.
    pub fn start_capture(&self, services: &Services) -> anyhow::Result<Process> {
        let mut command = self.orderstream("capture", services)?;
        command.env("REDIS_URL", &services.redis_url);
        Process::start(&mut command, &self.scratch.join("sides.log"))
    }

    /// Brings the schema of a database up to date.
    pub async fn migrate(&self, services: &Services) -> anyhow::Result<()> {
        let migrated = self.orderstream("migrate", services)?.output().await?;
        ensure!(
            migrated.status.success(),
            "migrate: {}",
            String::from_utf8_lossy(&migrated.stderr)
        );
        Ok(())
    }

    fn command(&self, side: Side, services: &Services, port: u16) -> anyhow::Result<Command> {
        if side.is_ours() {
            return self.ours(side, services, port);
        }
        let port = port.to_string();
        let mut command = match side {
            Side::Fastapi => {
                let mut command = Command::new(self.python.join("bin/uvicorn"));
                command
                    .args([
                        "app:app",
                        "--workers",
                        "2",
                        "--no-access-log",
                        "--log-level",
                        "warning",
                        "--port",
                        &port,
                    ])
                    .arg("--app-dir")
                    .arg(&self.fastapi);
                command
            }
            Side::Fastify => {
                let mut command = Command::new("node");
                command
                    .arg(self.fastify.join("server.js"))
                    .env("NODE_ENV", "production");
                command
            }
            Side::Floor => Command::new(self.release.join("bench-floor")),
            Side::FloorVerified => {
                let mut command = Command::new(self.release.join("bench-floor"));
                command.env("VERIFY", "1");
                command
            }
            Side::NaiveWhole => {
                let mut command = Command::new(self.release.join("bench-naive"));
                command.env("ENTRY", "whole");
                command
            }
            _ => Command::new(self.release.join("bench-naive")),
        };
        command.env("PORT", port).env("SECRET", SECRET);
        Ok(command)
    }

    fn ours(&self, side: Side, services: &Services, port: u16) -> anyhow::Result<Command> {
        let mut command = self.orderstream(if side == Side::Run { "run" } else { "serve" }, services)?;
        command
            .env("ORDERSTREAM_LISTEN_ADDR", format!("127.0.0.1:{port}"))
            .env("ORDERSTREAM_ADMIN_ADDR", format!("127.0.0.1:{}", free_port()?));
        match side {
            Side::DedupeOff => command.env("ORDERSTREAM_DEDUPE_BY", "off"),
            Side::RawRedacted => command.env("ORDERSTREAM_KEEP_RAW", "redacted"),
            Side::RawFull => command.env("ORDERSTREAM_KEEP_RAW", "full"),
            _ => &mut command,
        };
        Ok(command)
    }

    /// Defaults, but for bounds that a benchmark without workers would meet.
    fn orderstream(&self, verb: &str, services: &Services) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.orderstream);
        command
            .arg(verb)
            .current_dir(&self.scratch)
            .env("ORDERSTREAM_SHOPIFY_SECRETS", SECRET)
            .env("ORDERSTREAM_API_TOKENS", TOKEN)
            .env("ORDERSTREAM_ADMIN_TOKEN", TOKEN)
            .env("ORDERSTREAM_MAX_CONNECTIONS", "10000")
            .env("ORDERSTREAM_STREAM_MAXLEN", "100000000")
            .env("ORDERSTREAM_RETAIN_ACKED", "10000000");
        if let Some(url) = &services.database_url {
            command.env("DATABASE_URL", url);
        }
        if let Some(folder) = &services.spool {
            command
                .env("ORDERSTREAM_DATA_DIR", folder)
                .env("ORDERSTREAM_SPOOL_LIMIT", "16GiB");
        }
        for (name, value) in &services.settings {
            command.env(name, value);
        }
        Ok(command)
    }
}
