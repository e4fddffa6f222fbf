//! Connections as users have them: TLS, passwords, poolers, and servers that fall silent.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use orderstream::retryability::Retryability;
use orderstream::warehouse::postgres::PostgresWarehouse;
use orderstream::warehouse::{Warehouse, WarehouseError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::super::events::{Sample, order, records};
use crate::harness::eventually;
use crate::harness::postgres::{Cluster, Database, database_config};

/// A CA, and a certificate of it for `names`: (CA, certificate, key), PEM.
fn certificates(names: &[&str]) -> (String, String, String) {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    (ca.pem(), certificate.pem(), key.serialize_pem())
}

/// A server that takes only TLS and passwords on TCP.
async fn tls_cluster(names: &[&str]) -> (Cluster, tempfile::TempDir) {
    let (ca, certificate, key) = certificates(names);
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("ca.pem"), ca).unwrap();
    std::fs::write(files.path().join("other.pem"), certificates(names).0).unwrap();
    let settings = [("listen_addresses", "127.0.0.1"), ("ssl", "on"), ("fsync", "off")];
    let hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    let cluster = Cluster::start(
        &settings,
        &[("server.crt", &certificate), ("server.key", &key), ("pg_hba.conf", hba)],
    )
    .await;
    cluster.sql("postgres", r"CREATE ROLE app LOGIN SUPERUSER PASSWORD 'p@ss/w?rd#%:ü'");
    (cluster, files)
}

const PASSWORD: &str = "p%40ss%2Fw%3Frd%23%25%3A%C3%BC";

#[tokio::test]
async fn tls_is_verified_as_sslmode_says() {
    let (cluster, files) = tls_cluster(&["127.0.0.1"]).await;
    let (strange, strange_files) = tls_cluster(&["db.example.com"]).await;
    let file = |files: &tempfile::TempDir, name: &str| files.path().join(name).display().to_string();
    let (ca, other) = (file(&files, "ca.pem"), file(&files, "other.pem"));
    let strange_ca = file(&strange_files, "ca.pem");
    for (server, parameters, works) in [
        (&cluster, String::new(), true),
        (&cluster, "sslmode=allow".into(), true),
        (&cluster, "sslmode=require&channel_binding=require".into(), true),
        (&cluster, format!("sslmode=verify-full&sslrootcert={ca}"), true),
        (&cluster, format!("sslmode=verify-ca&sslrootcert={ca}"), true),
        (&cluster, "sslmode=disable".into(), false),
        (&cluster, "sslmode=verify-full".into(), false),
        (&cluster, format!("sslmode=verify-full&sslrootcert={other}"), false),
        (&cluster, format!("sslmode=verify-ca&sslrootcert={other}"), false),
        (&cluster, format!("sslmode=require&sslrootcert={other}"), false),
        (&strange, format!("sslmode=verify-ca&sslrootcert={strange_ca}"), true),
        (&strange, format!("sslmode=verify-full&sslrootcert={strange_ca}"), false),
    ] {
        let url = format!(
            "postgres://app:{PASSWORD}@127.0.0.1:{}/postgres?{parameters}",
            server.port
        );
        let answer = match PostgresWarehouse::new(&database_config(&url)) {
            Ok(warehouse) => warehouse.migrate().await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert_eq!(answer.is_ok(), works, "{parameters}: {answer:?}");
        if let Err(error) = answer {
            assert_eq!(error.retryability(), Retryability::Transient, "{parameters}: {error}");
            assert!(!error.to_string().contains("ss/w"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_the_operators_and_a_new_url_mends_it() {
    let (cluster, _files) = tls_cluster(&["127.0.0.1"]).await;
    let url = |password: &str| format!("postgres://app:{password}@127.0.0.1:{}/postgres", cluster.port);
    let warehouse = PostgresWarehouse::new(&database_config(&url("hush"))).unwrap();
    let error = warehouse.migrate().await.unwrap_err();
    assert!(matches!(error, WarehouseError::Unusable(_)), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");
    assert!(
        warehouse
            .prepare(&"postgres://nonsense".to_owned().into(), None)
            .is_err()
    );
    warehouse.prepare(&url(PASSWORD).into(), None).unwrap()();
    warehouse.migrate().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_is_given_up_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for url in [
        format!("postgres://u:hush@127.0.0.1:{port}/db"),
        "postgres://u@/db?host=/nowhere".into(),
    ] {
        let mut config = database_config(&url);
        config.connect_timeout = Duration::from_millis(300);
        let warehouse = PostgresWarehouse::new(&config).unwrap();
        let error = warehouse.check().await.unwrap_err();
        assert!(matches!(error, WarehouseError::Unreachable { .. }), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_goes_dead_amid_a_load_costs_only_itself() {
    let cluster = Cluster::start(&[], &[]).await;
    let mut config = database_config(&cluster.url("postgres"));
    config.statement_timeout = Duration::from_secs(3);
    let warehouse = PostgresWarehouse::new(&config).unwrap();
    warehouse.migrate().await.unwrap();
    let batch = [order("e1", "1", 1, 0).into()];
    warehouse.load(&records(&batch)).await.unwrap();
    cluster.freeze();
    let error = warehouse.load(&records(&batch)).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Unreachable { .. }), "{error}");
    cluster.thaw();
    eventually("loads again", Duration::from_secs(30), || async {
        warehouse.load(&records(&batch)).await.ok()
    })
    .await;
}

/// PgBouncer in transaction mode before a server; ends when it is dropped.
struct PgBouncer {
    process: Child,
    folder: tempfile::TempDir,
}

impl PgBouncer {
    /// `None` where it is not installed.
    async fn start(server: &Database) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .map(PathBuf::from)
            .find(|p| p.exists())?;
        let folder = tempfile::Builder::new().prefix("os-pb-").tempdir_in("/tmp").unwrap();
        crate::harness::postgres::own(folder.path());
        let (socket, url) = (folder.path().display(), server.url());
        let (_, parameters) = url.split_once('?').unwrap();
        let parameters = parameters.replace('&', " ");
        let name = server.name();
        let text = format!(
            "[databases]\n{name} = {parameters} dbname={name} user=postgres\n[pgbouncer]\nunix_socket_dir = {socket}\n\
             listen_port = 6432\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
        );
        let config = folder.path().join("pgbouncer.ini");
        std::fs::File::create(&config)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let process = crate::harness::postgres::as_postgres(&program)
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
        Some(Self { process, folder })
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pgbouncer_in_transaction_mode_may_stand_between() {
    let database = Database::empty().await;
    let Some(bouncer) = PgBouncer::start(&database).await else {
        eprintln!("SKIPPED: pgbouncer is not installed, nothing was tested of it");
        return;
    };
    let url = format!(
        "postgres://postgres@/{}?host={}&port=6432",
        database.name(),
        bouncer.folder.path().display()
    );
    let warehouse = std::sync::Arc::new(PostgresWarehouse::new(&database_config(&url)).unwrap());
    warehouse.migrate().await.unwrap();
    warehouse.check().await.unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    // More connections than PgBouncer has servers: transactions change servers all the time.
    let running: Vec<_> = (0..6)
        .map(|n| {
            let warehouse = warehouse.clone();
            tasks.spawn(async move {
                let samples: Vec<Sample> = (0..20)
                    .map(|m| order(&format!("e{n}-{m}"), &m.to_string(), 1, n).into())
                    .collect();
                for sample in samples.chunks(4) {
                    warehouse.load(&records(sample)).await.unwrap();
                }
            })
        })
        .collect();
    for task in running {
        task.await.unwrap();
    }
    assert_eq!(database.sql("SELECT count(*) FROM orderstream.order_events"), "120");
    assert_eq!(
        database.sql("SELECT count(*), min(last_event_id) FROM orderstream.orders"),
        "20|e5-0"
    );
}
