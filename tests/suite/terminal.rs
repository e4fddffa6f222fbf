//! Commands that print for as long as somebody looks, and the one that writes a first configuration.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::redis::RedisServer;
use crate::harness::service::{SECRET, Service, Settings, TOKEN};
use crate::harness::site::{PATIENCE, Site};
use crate::openapi::assert_is;

/// A command that runs until it is stopped.
struct Running {
    child: Child,
    out: Receiver<String>,
    errors: Receiver<String>,
}

fn lines_of(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Running {
    fn start(settings: &Settings, args: &[&str]) -> Self {
        let mut command = settings.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self {
            out: lines_of(child.stdout.take().unwrap()),
            errors: lines_of(child.stderr.take().unwrap()),
            child,
        }
    }

    fn line(&self) -> String {
        self.out.recv_timeout(PATIENCE).unwrap()
    }

    /// The order names of the next `count` lines of JSON.
    fn orders(&self, count: usize) -> Vec<String> {
        let order = |_| {
            let entry: Value = serde_json::from_str(&self.line()).unwrap();
            entry["order_id"].as_str().unwrap().to_owned()
        };
        Vec::from_iter((0..count).map(order))
    }

    /// Ctrl-C; answers the exit code.
    fn interrupt(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_shows_each_event_once_and_says_what_it_skips() {
    let site = Site::new().await;
    let settings = site.settings();
    let service = Service::start("serve", &settings).await;
    for id in 1..=3 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    let all = Running::start(&settings, &["tail", "--json", "-n", "2"]);
    assert_eq!(all.orders(2), ["2", "3"], "the newest, oldest first");
    let url = service.admin_url("");
    let remote = Settings::nothing().with("ORDERSTREAM_ADMIN_TOKEN", TOKEN);
    let paid = Running::start(&remote, &["tail", "--url", &url, "--topic", "orders/paid", "-n", "0"]);
    let of_order = Running::start(&settings, &["tail", "--order", "#5", "--shop", "tests.myshopify.com"]);
    // What is shown tells that the filtered ones have begun.
    let body = crate::harness::service::order(4).to_string();
    let delivered = service.deliver("orders/paid", "paid-4", body.as_bytes()).await.unwrap();
    assert!(delivered.status().is_success());
    assert!(all.line().contains("\"topic\":\"orders/paid\""));
    let shown = eventually("the remote one has begun", PATIENCE, async || {
        let again = crate::harness::service::order(40).to_string();
        let id = format!("paid-{}", rand_id());
        service.deliver("orders/paid", &id, again.as_bytes()).await.ok()?;
        paid.out.recv_timeout(Duration::from_millis(1500)).ok()
    })
    .await;
    assert!(shown.contains("order.paid") && shown.contains("20.50 EUR"), "{shown}");

    assert_eq!(service.deliver_order(5).await, Some(200));
    assert!(of_order.line().contains("#5"));
    let mut ids = BTreeSet::new();
    loop {
        let entry: Value = serde_json::from_str(&all.line()).unwrap();
        assert!(ids.insert(entry["id"].to_string()), "it is shown once: {entry}");
        match entry["order_id"].as_str().unwrap() {
            "5" => break,
            other => assert_eq!(other, "40"),
        }
    }

    // Far more than is read in a second.
    let flood = "for i = 1, 12000 do redis.call('XADD', 'orders_stream', '*', 'event_type', 'order.created', \
                 'event_id', i, 'timestamp', '2026-01-05T10:00:00Z', 'payload', '{\"order_id\":\"9\"}') end";
    let _: redis::Value = site.redis.command(&["EVAL", flood, "0"]).await;
    let said = all.errors.recv_timeout(PATIENCE).unwrap();
    let skipped = said.split_whitespace().find_map(|word| word.parse::<u32>().ok());
    assert!(
        said.starts_with("orderstream: skipped about ") && skipped.is_some_and(|n| (6500..=7000).contains(&n)),
        "{said}"
    );

    assert_eq!(paid.interrupt(), Some(0));
    assert_eq!(all.interrupt(), Some(0));
    // Whoever read it is gone: the thread that reads notices at this event, and the command without one more.
    let mut of_order = of_order;
    drop(std::mem::replace(&mut of_order.out, channel().1));
    let again = crate::harness::service::order(5).to_string();
    service
        .deliver("orders/updated", &rand_id(), again.as_bytes())
        .await
        .unwrap();
    let ended = eventually("it notices that nobody reads", PATIENCE, async || {
        of_order.child.try_wait().unwrap()
    })
    .await;
    assert_eq!(ended.code(), Some(0));
    assert!(
        of_order.errors.try_iter().all(|line| line.contains("skipped about")),
        "it is quiet"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_say_where_they_come_from_and_no_secret() {
    let redis = RedisServer::start().await;
    let settings = Settings::embedded().with("REDIS_URL", &redis.url());
    let folder = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ORDERSTREAM_GROUP = 'pipeline_workers'\n").unwrap();
    let from_file = settings.with("ORDERSTREAM_CONFIG", file.path().to_str().unwrap());
    let other = Service::start(
        "serve",
        &from_file.with_file("ORDERSTREAM_ADMIN_TOKEN", &token_file(&folder)),
    )
    .await;
    let found = api(&other, "/api/settings", TOKEN).await;
    assert_is("Settings", &found);
    let told = found.to_string();
    assert!(
        !told.contains(SECRET) && !told.contains(TOKEN) && !told.contains(&redis.url()),
        "{told}"
    );
    let of = |name: &str| {
        let all = found["settings"].as_array().unwrap();
        let one = all.iter().find(|setting| setting["name"] == name).unwrap();
        json!([one["set"], one["value"], one["origin"], one["file"].is_string()])
    };
    assert_eq!(of("REDIS_URL"), json!([true, null, "environment", false]));
    assert_eq!(of("ORDERSTREAM_ADMIN_TOKEN"), json!([true, null, "environment", true]));
    assert_eq!(
        of("ORDERSTREAM_GROUP"),
        json!([true, "pipeline_workers", "configuration file", false])
    );
    assert_eq!(of("ORDERSTREAM_WRITERS"), json!([false, "2", "default", false]));
}

async fn api(service: &Service, path: &str, token: &str) -> Value {
    let asked = reqwest::Client::new().get(service.admin_url(path)).bearer_auth(token);
    asked.send().await.unwrap().json().await.unwrap()
}

/// A file with the token of the tests.
fn token_file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let path = folder.path().join("token");
    std::fs::write(&path, TOKEN).unwrap();
    path
}

fn rand_id() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_files_the_owner_is_asked_and_without_one_nothing_comes() {
    let local = Local::new();
    let mut service = Service::start("run", &local.bare()).await;
    local.succeeds(&["send", "--count", "3"]);
    let tail = Running::start(&local.bare(), &["tail", "--json"]);
    assert_eq!(tail.orders(3).len(), 3);
    let watch = Running::start(&local.bare(), &["status", "--watch=100ms", "--json"]);
    // A process that has only just started does not know yet whether all is well.
    let reports = (0..200).map(|_| serde_json::from_str::<Value>(&watch.line()).unwrap());
    let healthy = reports.filter(|report| report["status"] == "healthy");
    assert_eq!(healthy.take(2).count(), 2);
    // Orders are of today, by the clock of the shop.
    let today = "SELECT count(*) FROM orders WHERE local_date >= date('now', '-1 day')";
    local.has_rows(3).await;
    assert_eq!(local.sql(today), ["3"]);
    let secrets = std::fs::read_to_string(local.data_dir().join("local-secrets.toml")).unwrap();
    let token = secrets
        .lines()
        .find_map(|line| line.strip_prefix("admin_token = "))
        .unwrap()
        .trim_matches('"');
    service.settled(3).await;
    let page = api(&service, "/api/events?states=true&count=2", token).await;
    assert_is("Entries", &page);
    for entry in page["entries"].as_array().unwrap() {
        assert_eq!(entry["state"]["stage"], "settled");
        let only = format!("/api/events?from={0}&to={0}", entry["id"].as_str().unwrap());
        let only = api(&service, &only, token).await;
        assert_eq!(
            (only["entries"].as_array().unwrap().len(), &only["newest"]),
            (1, &entry["id"])
        );
    }
    assert_eq!(api(&service, "/api/settings", token).await["local"], true);

    service.kill();
    let said = tail.errors.recv_timeout(PATIENCE).unwrap();
    assert!(
        said.contains("no answer from the process") && said.ends_with("; it is asked again every second"),
        "{said}"
    );
    assert_eq!(tail.interrupt(), Some(0));
    // A watch goes on, over the files themselves.
    while watch.out.try_recv().is_ok() {}
    let report: Value = serde_json::from_str(&watch.line()).unwrap();
    assert_eq!(report["stream_length"], 3);
    assert_eq!(watch.interrupt(), Some(0));
    let output = local.bare().command(&["tail"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("no process runs on "),
        "{output:?}"
    );
}

fn init(folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let args = [&["init", folder.to_str().unwrap()], more].concat();
    let output = Settings::nothing().command(&args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn init_writes_a_configuration_that_runs_and_overwrites_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".env");
    assert_eq!(init(folder.path(), &[]), (Some(0), String::new()));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for setting in orderstream::config::settings::ALL {
        let lines = text
            .lines()
            .filter(|line| line.trim_start_matches('#').starts_with(&format!("{}=", setting.name)));
        assert_eq!(lines.count(), 1, "{}", setting.name);
    }
    let (code, said) = init(folder.path(), &[]);
    assert!(
        code == Some(64) && said.contains("exists and is not overwritten"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    // As its header says.
    let mut shell = Command::new("sh");
    let line = "set -a; . ./.env; set +a; exec \"$0\" run --listen-addr 127.0.0.1:0 --admin-addr 127.0.0.1:0";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_orderstream")]);
    let service = Service::start_by(shell, &Settings::nothing().within(folder.path())).await;
    let secret = text
        .lines()
        .find_map(|line| line.strip_prefix("ORDERSTREAM_SHOPIFY_SECRETS="))
        .unwrap();
    let base = service.url("");
    let sent = Settings::nothing()
        .command(&["send", "--secret", secret, "--url", &base])
        .output()
        .unwrap();
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    assert!(secret != SECRET && secret.len() == 64);
    assert!(!service.stderr().contains("WARN"), "{}", service.stderr());

    let other = tempfile::tempdir().unwrap();
    assert_eq!(init(other.path(), &["--compose"]), (Some(0), String::new()));
    let compose = std::fs::read_to_string(other.path().join("docker-compose.yml")).unwrap();
    let parsed: serde_yaml_ng::Value = serde_yaml_ng::from_str(&compose).unwrap();
    assert!(
        parsed["services"]["serve"].is_mapping() && !compose.contains("build:"),
        "{compose}"
    );
    let env = std::fs::read_to_string(other.path().join(".env")).unwrap();
    let empty = env.lines().filter(|line| !line.starts_with('#') && line.ends_with('='));
    assert_eq!(empty.count(), 0, "{env}");
    std::fs::remove_file(other.path().join(".env")).unwrap();
    assert_eq!(init(other.path(), &["--compose"]).0, Some(64));
    assert!(
        !other.path().join(".env").exists(),
        "one without the other would not fit"
    );
}
