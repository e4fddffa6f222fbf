//! Green means well: what an operator looks at says so where orders wait and no worker runs, where the warehouse is away,
//! where dead letters come in, and where something is not known. One `serve` and two `work`, on Redis and PostgreSQL.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::eventually;
use crate::harness::service::{Service, Settings, TOKEN};
use crate::harness::site::{PATIENCE, Site};

/// By then a state shows: it lasts 30 s at most before it does, and the rest is for a busy machine.
const SHOWN_WITHIN: Duration = Duration::from_secs(90);

/// One that serves and two that work.
struct Pipeline {
    settings: Settings,
    serve: Service,
    workers: Vec<Service>,
}

impl Pipeline {
    async fn start(settings: &Settings) -> Self {
        let serve = Service::start("serve", settings).await;
        let mut workers = Vec::new();
        for name in ["first", "second"] {
            workers.push(Service::start("work", &settings.with("CONSUMER_NAME", name)).await);
        }
        let pipeline = Self {
            settings: settings.clone(),
            serve,
            workers,
        };
        pipeline.is("healthy", PATIENCE).await;
        pipeline
    }

    async fn health(&self) -> Option<Value> {
        let answer = self.serve.get(&self.serve.url("/health")).await.ok()?;
        // It accepts all the while; only a stream that answers late is looked at again.
        let accepts = answer.status() == 200;
        answer.json().await.ok().filter(|_| accepts)
    }

    /// Waits until the overall word is that.
    async fn is(&self, status: &str, limit: Duration) -> Value {
        let looked = async || self.health().await.filter(|report| report["status"] == status);
        eventually(&format!("it is {status}"), limit, looked).await
    }

    /// Waits until that check is critical wherever an operator looks; answers what it says.
    async fn shows_critical(&self, name: &str, since: Instant) -> String {
        let left = || SHOWN_WITHIN.saturating_sub(since.elapsed());
        let report = eventually(&format!("{name} is critical"), left(), async || {
            let report = self.health().await?;
            (check(&report, name)?["status"] == "critical").then_some(report)
        })
        .await;
        assert_eq!(
            report["status"], "critical",
            "the overall word is the worst check: {report:#}"
        );
        let detail = check(&report, name).unwrap()["detail"].as_str().unwrap().to_owned();

        let client = reqwest::Client::new();
        let asked = client.get(self.serve.admin_url("/api/status")).bearer_auth(TOKEN);
        let api: Value = asked.send().await.unwrap().json().await.unwrap();
        assert_eq!(
            (&api["status"], &check(&api, name).unwrap()["status"]),
            (&"critical".into(), &"critical".into())
        );
        let gauge = format!("orderstream_health_check{{check=\"{name}\"}} 2");
        eventually("it is exported", left(), async || {
            let metrics = self.serve.get(&self.serve.admin_url("/metrics")).await.ok()?;
            metrics.text().await.ok()?.contains(&gauge).then_some(())
        })
        .await;
        let text = eventually("`status` exits 69", left(), async || {
            let (code, text) = status(&self.settings);
            (code == Some(69)).then_some(text)
        })
        .await;
        assert!(line(&text, name).starts_with('✗'), "{text}");
        detail
    }
}

fn check<'a>(report: &'a Value, name: &str) -> Option<&'a Value> {
    report["checks"].as_array()?.iter().find(|check| check["name"] == name)
}

/// `orderstream status`: exit code and text.
fn status(settings: &Settings) -> (Option<i32>, String) {
    let output = settings.command(&["status"]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap() + &errors,
    )
}

/// The line of a check.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
    found.unwrap_or_else(|| panic!("no line of {name}:\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_wait_while_no_worker_runs_are_critical() {
    let site = Site::new().await;
    // As it is by default: what is shown has lasted.
    let settings = site.settings().with("ORDERSTREAM_HEALTH_AFTER", "30s");
    let mut pipeline = Pipeline::start(&settings).await;
    assert_eq!(pipeline.serve.deliver_order(1).await, Some(200));
    site.has_rows(1).await;

    let cause = Instant::now();
    pipeline.workers[0].signal(Signal::SIGTERM);
    assert!(pipeline.workers[0].ended(PATIENCE).await.success());
    pipeline.workers[1].kill();
    for id in 2..=6 {
        assert_eq!(pipeline.serve.deliver_order(id).await, Some(200));
    }
    let detail = pipeline.shows_critical("workers", cause).await;
    assert!(detail.starts_with("no live worker, and 5 entries wait"), "{detail}");

    pipeline.workers.push(Service::start("work", &settings).await);
    site.has_rows(6).await;
    let report = pipeline.is("healthy", PATIENCE).await;
    assert_eq!(report["workers"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_that_is_away_is_critical_on_a_node_that_never_opens_it() {
    let site = Site::durable().await;
    let settings = site.settings().with("ORDERSTREAM_HEALTH_WAREHOUSE_CRITICAL", "10s");
    let pipeline = Pipeline::start(&settings).await;
    let cause = Instant::now();
    site.cluster().kill();
    assert_eq!(pipeline.serve.deliver_order(1).await, Some(200));
    let detail = pipeline.shows_critical("warehouse", cause).await;
    assert!(detail.starts_with("unreachable for "), "{detail}");
    // One that has just been started need not see for itself that it has lasted.
    let late = Service::start("serve", &settings.with("ORDERSTREAM_HEALTH_AFTER", "5s")).await;
    eventually("a new node shows it", PATIENCE, async || {
        let answer = late.get(&late.url("/health")).await.ok()?;
        let report: Value = answer.json().await.ok()?;
        (check(&report, "warehouse")?["status"] == "critical").then_some(())
    })
    .await;
    site.cluster().restart().await;
    site.has_rows(1).await;
    pipeline.is("healthy", PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_come_in_are_critical_until_they_are_resolved() {
    const LETTERS: usize = 3020;
    let site = Site::new().await;
    let pipeline = Pipeline::start(&site.settings()).await;
    let cause = Instant::now();
    let append = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'event_type', 'order.created', \
        'event_id', 'poison-' .. i, 'timestamp', '2026-01-05T10:00:00Z', 'payload', '{') end";
    let many = LETTERS.to_string();
    let _: () = site.redis.command(&["EVAL", append, "1", "orders_stream", &many]).await;
    let detail = pipeline.shows_critical("dead_letters", cause).await;
    assert!(detail.contains(" new within 15 min"), "{detail}");
    eventually("all are dead letters", PATIENCE, async || {
        (site.dead_letters().await == LETTERS).then_some(())
    })
    .await;
    // One that did not see them come counts them too.
    let late = Service::start("serve", &site.settings()).await;
    eventually("a new node counts them", PATIENCE, async || {
        let answer = late.get(&late.url("/health")).await.ok()?;
        let report: Value = answer.json().await.ok()?;
        let found = check(&report, "dead_letters")?;
        (found["status"] == "critical" && report["dead_letters_new"].as_u64()? > 100).then_some(())
    })
    .await;

    let discarded = site
        .settings()
        .command(&["dead-letters", "discard", "--all", "--yes"])
        .output()
        .unwrap();
    assert!(
        discarded.status.success(),
        "{}",
        String::from_utf8_lossy(&discarded.stderr)
    );
    let report = pipeline.is("healthy", PATIENCE).await;
    assert_eq!(report["dead_letters_new"], 0);
}

/// Nobody runs, so nobody tells of the warehouse, of 401s or of workers; the stream itself is there.
#[tokio::test(flavor = "multi_thread")]
async fn status_does_not_call_well_what_no_process_tells() {
    let site = Site::new().await;
    site.produce(&crate::harness::service::event(1)).await;
    let (code, text) = status(&site.settings());
    assert_eq!(code, Some(69), "{text}");
    assert!(line(&text, "workers").starts_with('✗'), "{text}");
    for unknown in ["warehouse", "backlog_age"] {
        assert!(line(&text, unknown).starts_with('–'), "{text}");
    }
    let output = site.settings().command(&["status", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["status"], &report["workers"]), (&"critical".into(), &0.into()));
    assert_eq!(check(&report, "warehouse").unwrap()["known"], false);
}

/// Redis takes writes, and does not tell of itself: what is not known is said to be unknown, at once.
#[tokio::test(flavor = "multi_thread")]
async fn figures_that_are_not_known_are_not_green() {
    let mut site = Site::new().await;
    let settings = site.settings().with("ORDERSTREAM_HEALTH_AFTER", "10m");
    let pipeline = Pipeline::start(&settings).await;
    let _: () = site.redis.command(&["ACL", "SETUSER", "default", "-xinfo"]).await;
    let report = pipeline.is("warning", PATIENCE).await;
    let figures = &report["checks"][1];
    assert_eq!(
        (&figures["name"], &figures["known"]),
        (&"figures".into(), &false.into()),
        "{report:#}"
    );
    assert_eq!((&report["lag"], &report["dead_letters"]), (&Value::Null, &Value::Null));
    assert_eq!(
        pipeline.serve.deliver_order(1).await,
        Some(200),
        "it accepts all the same"
    );
    let _: () = site.redis.command(&["ACL", "SETUSER", "default", "+xinfo"]).await;
    pipeline.is("healthy", PATIENCE).await;

    site.redis.kill();
    eventually("it is critical", PATIENCE, async || {
        let answer = pipeline.serve.get(&pipeline.serve.url("/health")).await.ok()?;
        let accepts = answer.status() == 200;
        let report: Value = answer.json().await.ok()?;
        (!accepts && report["status"] == "critical" && check(&report, "figures")?["known"] == false).then_some(())
    })
    .await;
    let (code, text) = status(&settings);
    assert_eq!(code, Some(69), "{text}");
    assert!(!text.contains('✓'), "{text}");
}
