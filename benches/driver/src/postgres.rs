//! A PostgreSQL server, durable (fsync on) and otherwise with its defaults, but for memory that suits the machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::unistd::{User, geteuid};
use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use crate::process::{Process, eventually};
use crate::redis::free_port;

const SETTINGS: [&str; 7] = [
    "listen_addresses=",
    "max_connections=50",
    "shared_buffers=512MB",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    // Tells when a row was committed, for end-to-end latency.
    "track_commit_timestamp=on",
    "fsync=on",
];

pub struct Postgres {
    process: Process,
    // After the process: dropped in this order.
    folder: TempDir,
    port: u16,
}

impl Postgres {
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// With further settings.
    pub async fn start_with(settings: &[&str]) -> anyhow::Result<Self> {
        // Short: the path of a unix socket has room for about 100 bytes.
        let folder = tempfile::Builder::new().prefix("os-bench-pg-").tempdir_in("/tmp")?;
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
        if let Some(user) = owner()? {
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let cluster = folder.path().join("cluster");
        let initdb = program("initdb")?
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&cluster)
            .output()
            .await?;
        ensure!(
            initdb.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&initdb.stderr)
        );
        let port = free_port()?;
        let mut command = program("postgres")?;
        command.arg("-D").arg(&cluster);
        command
            .arg("-c")
            .arg(format!("unix_socket_directories={}", folder.path().display()));
        command.arg("-c").arg(format!("port={port}"));
        for setting in SETTINGS.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        let process = Process::start(&mut command, &folder.path().join("log"))?;
        let postgres = Self { process, folder, port };
        eventually("PostgreSQL answers", Duration::from_secs(60), async || {
            postgres.connect("postgres").await.ok()
        })
        .await?;
        Ok(postgres)
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@/{database}?host={}&port={}",
            self.folder.path().display(),
            self.port
        )
    }

    /// A connection, as the superuser.
    pub async fn connect(&self, database: &str) -> anyhow::Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// An empty database of that name, whatever was there.
    pub async fn fresh(&self, database: &str) -> anyhow::Result<()> {
        let client = self.connect("postgres").await?;
        client
            .execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"), &[])
            .await?;
        client.execute(&format!("CREATE DATABASE {database}"), &[]).await?;
        // What the side before it left to be written is not this one's.
        client.execute("CHECKPOINT", &[]).await?;
        Ok(())
    }
}

/// PostgreSQL refuses root.
fn owner() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    Ok(Some(User::from_name("postgres")?.context("a user `postgres`")?))
}

/// A program of PostgreSQL, as the user `postgres` where we are root.
pub fn program(name: &str) -> anyhow::Result<Command> {
    let path = folder()?.join(name);
    if !geteuid().is_root() {
        return Ok(Command::new(path));
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
        .arg(path)
        .current_dir("/tmp");
    Ok(command)
}

/// `POSTGRES_BIN`, else the newest of the system's packages.
fn folder() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("POSTGRES_BIN") {
        return Ok(folder.into());
    }
    let version = |path: &PathBuf| path.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|folder: &PathBuf| Path::exists(&folder.join("initdb")))
        .max_by_key(version)
        .context("PostgreSQL's initdb, in /usr/lib/postgresql/*/bin or POSTGRES_BIN")
}
