//! PgBouncer, as it stands before a server.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::eventually;
use super::postgres::{as_postgres, own};

/// PgBouncer in transaction mode before a server; ends when it is dropped.
pub struct PgBouncer {
    process: Child,
    folder: tempfile::TempDir,
    database: String,
}

impl PgBouncer {
    /// Before a database with the URL of a unix socket. `None`, said loudly, where it is not installed.
    pub async fn start(url: &str, database: &str) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .map(PathBuf::from)
            .find(|p| p.exists());
        let Some(program) = program else {
            eprintln!("SKIPPED: pgbouncer is not installed, nothing was tested of it");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("os-pb-").tempdir_in("/tmp").unwrap();
        own(folder.path());
        let socket = folder.path().display();
        let (_, parameters) = url.split_once('?').unwrap();
        let parameters = parameters.replace('&', " ");
        let text = format!(
            "[databases]\n{database} = {parameters} dbname={database} user=postgres\n[pgbouncer]\nunix_socket_dir = {socket}\n\
             listen_port = 6432\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
        );
        let config = folder.path().join("pgbouncer.ini");
        std::fs::File::create(&config)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let process = as_postgres(&program)
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let socket = folder.path().join(".s.PGSQL.6432");
        eventually("PgBouncer answers", Duration::from_secs(30), || async {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        })
        .await;
        Some(Self {
            process,
            folder,
            database: database.to_owned(),
        })
    }

    pub fn url(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgres://postgres@/{}?host={folder}&port=6432", self.database)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}
