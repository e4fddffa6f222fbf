//! The real binary, started as an operator would, and a client that speaks to it as Shopify does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::eventually;

pub const SECRET: &str = "a secret of the tests";
pub const TOKEN: &str = "a token of the tests";
const START_LIMIT: Duration = Duration::from_secs(90);
const READY_LIMIT: Duration = Duration::from_secs(3);
/// Far beyond the time that an answer may take: what a busy machine adds is no failure.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Variables and folder of a process. Nothing of the surroundings gets in.
#[derive(Debug, Clone)]
pub struct Settings {
    variables: BTreeMap<String, String>,
    folder: Option<PathBuf>,
}

impl Settings {
    /// Nothing at all.
    pub fn nothing() -> Self {
        Self {
            variables: BTreeMap::new(),
            folder: None,
        }
    }

    /// Free ports on loopback, and nothing else: the usual ones may be taken.
    pub fn bare() -> Self {
        Self::nothing()
            .with("ORDERSTREAM_LISTEN_ADDR", "127.0.0.1:0")
            .with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0")
    }

    /// The test's secrets, and times that suit a test; stream and warehouse in the data folder.
    pub fn embedded() -> Self {
        let settings = [
            ("ORDERSTREAM_SHOPIFY_SECRETS", SECRET),
            ("ORDERSTREAM_API_TOKENS", TOKEN),
            ("ORDERSTREAM_ADMIN_TOKEN", TOKEN),
            ("ORDERSTREAM_CLAIM_IDLE", "2s"),
            ("ORDERSTREAM_STATEMENT_TIMEOUT", "1s"),
            ("ORDERSTREAM_RETRY_DELAY", "100ms"),
            ("ORDERSTREAM_BLOCK", "200ms"),
            ("ORDERSTREAM_CONSUMER_TTL", "1h"),
            ("ORDERSTREAM_HEALTH_AFTER", "0s"),
            ("RUST_LOG", "info,orderstream=debug"),
        ];
        settings
            .iter()
            .fold(Self::bare(), |all, (name, value)| all.with(name, value))
    }

    /// The same on servers.
    pub fn new(redis_url: &str, database_url: &str) -> Self {
        Self::embedded()
            .with("REDIS_URL", redis_url)
            .with("DATABASE_URL", database_url)
    }

    /// The same, with one more or another value.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut settings = self.clone();
        settings.variables.insert(name.to_owned(), value.to_owned());
        settings
    }

    /// The same, with a secret that stands in a file.
    #[must_use]
    pub fn with_file(&self, name: &str, path: &Path) -> Self {
        let mut settings = self.with(&format!("{name}_FILE"), path.to_str().unwrap());
        settings.variables.remove(name);
        settings
    }

    /// The same, started in that folder.
    #[must_use]
    pub fn within(&self, folder: &Path) -> Self {
        Self {
            folder: Some(folder.to_owned()),
            ..self.clone()
        }
    }

    /// The binary with them, for a command that ends by itself.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderstream"));
        self.apply(command.args(args).stdin(Stdio::null()));
        command
    }

    fn apply(&self, command: &mut Command) {
        command.env_clear().envs(&self.variables);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
    }
}

/// A running process of ours; killed when dropped.
pub struct Service {
    child: Child,
    stderr: Arc<Mutex<String>>,
    /// Ends with the last byte that it writes.
    reader: JoinHandle<()>,
    client: reqwest::Client,
    public: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Service {
    /// `orderstream <command>`; returns when it takes webhooks. Where the stream is not to be had that is never, and
    /// it is waited for no longer than [`READY_LIMIT`].
    pub async fn start(command: &str, settings: &Settings) -> Self {
        let service = Self::start_unready(command, settings).await;
        let deadline = Instant::now() + READY_LIMIT;
        while let Some(public) = service.public
            && Instant::now() < deadline
        {
            let answer = service.get(&format!("http://{public}/readyz")).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service
    }

    /// The same; returns when it says that it is up.
    pub async fn start_unready(command: &str, settings: &Settings) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_orderstream"));
        program.arg(command);
        Self::start_by(program, settings).await
    }

    /// As [`start_unready`](Self::start_unready), started by that program.
    pub async fn start_by(program: Command, settings: &Settings) -> Self {
        let mut service = Self::spawn(program, settings);
        let line = eventually("the service is up", START_LIMIT, async || {
            if let Some(status) = service.status() {
                panic!("it ended with {status}:\n{}", service.stderr());
            }
            service
                .stderr()
                .lines()
                .find(|line| line.contains(" is up: "))
                .map(str::to_owned)
        })
        .await;
        service.public = address(&line, "public listener http://");
        service.admin = address(&line, "private listener http://");
        service
    }

    /// Any program, of which nothing is expected.
    pub fn spawn(mut program: Command, settings: &Settings) -> Self {
        // Fails where another test was faster; it installs the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        settings.apply(&mut program);
        let mut child = program
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (pipe, text) = (child.stderr.take().unwrap(), Arc::clone(&stderr));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = text.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self {
            child,
            stderr,
            reader,
            client: reqwest::Client::builder().timeout(ANSWER_LIMIT).build().unwrap(),
            public: None,
            admin: None,
        }
    }

    /// What it wrote so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until it has written that; answers all it wrote.
    pub async fn says(&self, text: &str) -> String {
        let said = async || Some(self.stderr()).filter(|stderr| stderr.contains(text));
        eventually(&format!("it says {text}"), START_LIMIT, said).await
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    /// SIGKILL, as a crash.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, once all that it wrote is read.
    fn status(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap();
        status.filter(|_| self.reader.is_finished())
    }

    /// Waits until it has ended by itself; then [`stderr`](Self::stderr) is all that it wrote.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        eventually("the process ends", limit, async || self.status()).await
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.status().is_some()
    }

    /// The code it ended with.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.status().map(|status| status.code().expect("killed"))
    }

    /// An address on the public listener.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.public.expect("no public listener"))
    }

    /// An address on the private listener.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin.expect("no private listener"))
    }

    pub async fn get(&self, url: &str) -> reqwest::Result<reqwest::Response> {
        self.client.get(url).send().await
    }

    /// A check of the public listener's health report; none where the report has no such check, as before the first look
    /// at the stream.
    pub async fn health_check(&self, name: &str) -> Option<Value> {
        let answer = self.get(&self.url("/health?fresh=true")).await.ok()?;
        let report: Value = answer.json().await.ok()?;
        let mut checks = report["checks"].as_array()?.iter();
        checks.find(|check| check["name"] == name).cloned()
    }

    /// Waits until the stream holds `entries` or more and all are acked, as the process itself says; answers its report.
    /// (A report may be a second old: without the number it could be from before they came.)
    pub async fn settled(&self, entries: u64) -> Value {
        eventually("nothing is unread or pending", super::site::PATIENCE, async || {
            let report: Value = self.get(&self.url("/health")).await.ok()?.json().await.ok()?;
            let stored = report["stream_length"].as_u64()? >= entries;
            (stored && report["lag"] == 0 && report["pending_count"] == 0).then_some(report)
        })
        .await
    }

    /// Delivers a webhook as Shopify does. `Err` where there was no answer.
    pub async fn deliver(&self, topic: &str, webhook_id: &str, body: &[u8]) -> reqwest::Result<reqwest::Response> {
        let request = webhook(&self.client, &self.url(""), topic, webhook_id, body);
        request.send().await
    }

    /// Delivers the creation of an order; answers the status, or none where there was no answer.
    pub async fn deliver_order(&self, id: u64) -> Option<u16> {
        let answer = self
            .deliver(
                "orders/create",
                &format!("webhook-{id}"),
                order(id).to_string().as_bytes(),
            )
            .await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    /// Sends a batch.
    pub async fn send_batch(&self, events: &Value) -> reqwest::Result<reqwest::Response> {
        let request = self.client.post(self.url("/events/batch")).bearer_auth(TOKEN);
        request
            .header("content-type", "application/json")
            .body(events.to_string())
            .send()
            .await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- stderr of the process:\n{}", self.stderr());
        }
    }
}

/// A webhook as Shopify signs and sends it, not yet sent. `url` is the listener's, without a path.
pub fn webhook(
    client: &reqwest::Client,
    url: &str,
    topic: &str,
    webhook_id: &str,
    body: &[u8],
) -> reqwest::RequestBuilder {
    signed_webhook(SECRET, client, url, topic, webhook_id, body)
}

/// The same, signed with that secret.
pub fn signed_webhook(
    secret: &str,
    client: &reqwest::Client,
    url: &str,
    topic: &str,
    webhook_id: &str,
    body: &[u8],
) -> reqwest::RequestBuilder {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    client
        .post(format!("{url}/webhooks/orders"))
        .body(body.to_owned())
        .header("x-shopify-hmac-sha256", signature)
        .header("x-shopify-topic", topic)
        .header("x-shopify-shop-domain", "tests.myshopify.com")
        .header("x-shopify-webhook-id", webhook_id)
}

fn address(line: &str, before: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(before)?;
    rest.split([',', ' ']).next()?.parse().ok()
}

/// A whole order as Shopify sends it, as small as it gets.
pub fn order(id: u64) -> Value {
    json!({
        "id": id,
        "name": format!("#{id}"),
        "created_at": "2026-01-05T10:00:00-05:00",
        "processed_at": "2026-01-05T10:00:00-05:00",
        "updated_at": "2026-01-05T10:00:01-05:00",
        "cancelled_at": null,
        "currency": "EUR",
        "total_price": "20.50",
        "subtotal_price": "20.50",
        "total_discounts": "0.00",
        "total_tax": "0.00",
        "taxes_included": true,
        "financial_status": "paid",
        "fulfillment_status": null,
        "customer": null,
        "line_items": [{"id": id, "sku": "A-1", "title": "Thing", "quantity": 2, "price": "10.25"}],
        "refunds": []
    })
}

/// The same order as an `OrderEvent`.
pub fn event(id: u64) -> Value {
    json!({
        "event_type": "order.created",
        "event_id": format!("event-{id}"),
        "timestamp": "2026-01-05T10:00:00-05:00",
        "order_id": id.to_string(),
        "customer_id": null,
        "total_amount": 20.50,
        "currency": "EUR",
        "items": [{"sku": "A-1", "qty": 2, "price": 10.25}]
    })
}
