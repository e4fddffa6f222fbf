//! What a merchant's trigger refuses, and what makes a load panic: whom it costs, and what is said of it.

use orderstream::telemetry;

use super::*;
use crate::harness::local::Local;

/// A trigger that refuses orders where `condition` holds, with content in its message.
fn refuse(site: &Site, condition: &str) {
    site.sql(&format!(
        "CREATE FUNCTION orderstream.refuse_order() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE WARNING 'jane@example.com ordered %', NEW.order_id; \
         IF {condition} THEN RAISE EXCEPTION 'no jane@example.com: %', NEW.payload USING DETAIL = 'secret'; END IF; \
         RETURN NEW; END $$; \
         CREATE TRIGGER refusing BEFORE INSERT ON orderstream.order_events \
         FOR EACH ROW EXECUTE FUNCTION orderstream.refuse_order()"
    ));
}

async fn has_letters(site: &Site, count: usize) {
    eventually(&format!("{count} dead letters"), PATIENCE, async || {
        (site.dead_letters().await == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_a_trigger_refuses_costs_only_itself() {
    let site = Site::new().await;
    refuse(&site, "NEW.order_id = '13'");
    for id in 1..=200 {
        site.produce(&event(id)).await;
    }
    // Its neighbours do not wait for its next try.
    let settings = site.settings().with("CONSUMER_NAME", "tests");
    let mut patient = Service::start("work", &settings.with("ORDERSTREAM_RETRY_DELAY", "1h")).await;
    site.has_rows(199).await;
    assert_eq!(site.dead_letters().await, 0);
    patient.signal(Signal::SIGTERM);
    assert!(patient.ended(PATIENCE).await.success());
    let worker = Service::start("work", &settings).await;
    // It is at fault only where others are loaded meanwhile.
    let mut newest = 200;
    eventually("it is a dead letter", PATIENCE, async || {
        newest += 1;
        site.produce(&event(newest)).await;
        (site.dead_letters().await == 1).then_some(())
    })
    .await;
    site.has_rows(usize::try_from(newest - 1).unwrap()).await;
    site.is_settled().await;
    let letters = site.letters().await;
    let letter = &letters[0];
    assert_eq!((&*letter["event_id"], &*letter["attempts"]), ("event-13", "3"));
    let error = &letter["error"];
    assert!(
        error.contains("SQLSTATE P0001") && error.contains("orderstream.refuse_order"),
        "{error}"
    );
    let log = patient.stderr() + &worker.stderr();
    for content in ["jane@example.com", "secret", "A-1"] {
        assert!(!log.contains(content) && !error.contains(content), "{error}\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_order_is_at_fault_only_once_others_load() {
    let site = Site::new().await;
    refuse(&site, "NEW.order_id = '13'");
    site.produce(&event(13)).await;
    let worker = Service::start("work", &site.settings()).await;
    worker.says("nothing else was loaded since").await;
    assert_eq!(site.dead_letters().await, 0, "it may be the surroundings' fault");
    site.produce(&event(14)).await;
    site.has_rows(1).await;
    has_letters(&site, 1).await;
    assert_eq!(site.letters().await[0]["attempts"], "3");
    site.is_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refuses_everything_is_waited_out() {
    let site = Site::new().await;
    refuse(&site, "true");
    for id in 1..=40 {
        site.produce(&event(id)).await;
    }
    let worker = Service::start("work", &site.settings().with("ORDERSTREAM_MAX_DELIVERIES", "1")).await;
    worker.says("loading fails; trying again until it works").await;
    eventually("all have been tried", PATIENCE, async || {
        let refused = site.sql("SELECT sum(xact_rollback) FROM pg_stat_database WHERE datname = current_database()");
        (refused.parse::<u32>().unwrap() > 60).then_some(())
    })
    .await;
    assert_eq!(site.dead_letters().await, 0);
    site.sql("DROP TRIGGER refusing ON orderstream.order_events");
    site.has_rows(40).await;
    site.is_settled().await;
    assert_eq!(site.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_fails_in_a_file_costs_only_itself() {
    let local = Local::new();
    let service = Service::start("run", &local.settings()).await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    local.has_rows(1).await;
    let file = rusqlite::Connection::open(local.data_dir().join("warehouse.db")).unwrap();
    file.busy_timeout(PATIENCE).unwrap();
    file.execute_batch(
        "CREATE TRIGGER failing BEFORE INSERT ON order_events WHEN NEW.order_id = '13' \
         BEGIN SELECT json_extract('{secret', '$.a'); END",
    )
    .unwrap();
    for id in [12, 13, 14] {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    local.has_rows(3).await;
    let report = eventually("it is a dead letter", PATIENCE, async || {
        service.deliver_order(20).await;
        let report: serde_json::Value = service.get(&service.url("/health")).await.ok()?.json().await.ok()?;
        (report["dead_letters"] == 1).then_some(report)
    })
    .await;
    let log = service.says("dead-lettered").await;
    let line = log
        .lines()
        .find(|line| line.contains("dead-lettered"))
        .unwrap_or_default();
    assert!(
        line.contains("SQLITE_ERROR") && !log.contains("secret"),
        "{report:#}\n{log}"
    );
}

/// A warehouse that one event makes panic.
struct Panicking(Loader, String);

#[async_trait]
impl Handler for Panicking {
    async fn handle(&self, events: &[EventRecord<'_>]) -> Result<Handled, HandlerError> {
        for record in events {
            assert!(record.event.event_id.as_str() != self.1, "over {}", record.payload);
        }
        self.0.handle(events).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_makes_a_load_panic_has_one_try_alone() {
    let site = Site::new().await;
    for id in 1..=40 {
        site.produce(&event(id)).await;
    }
    let settings = site
        .settings()
        .with("ORDERSTREAM_RETRY_DELAY", "1h")
        .with("ORDERSTREAM_MAX_DELIVERIES", "9")
        .with("TESTS_PANIC", "event-7");
    let mut program = Command::new(std::env::current_exe().unwrap());
    let worker = "worker::refusals::work_with_a_panic";
    program.args(["--exact", worker, "--ignored", "--nocapture"]);
    let mut worker = Service::spawn(program, &settings);
    site.has_rows(39).await;
    has_letters(&site, 1).await;
    site.is_settled().await;
    let letters = site.letters().await;
    let letter = &letters[0];
    assert_eq!((&*letter["event_id"], &*letter["attempts"]), ("event-7", "1"));
    let error = &letter["error"];
    assert!(error.contains("panicked at tests/suite/worker/refusals.rs:"), "{error}");
    assert!(!error.contains("A-1") && !worker.stderr().contains("A-1"), "{error}");
    assert!(!worker.has_ended(), "it goes on");
}

#[ignore = "not a test: the worker of `an_entry_that_makes_a_load_panic_has_one_try_alone`"]
#[tokio::test(flavor = "multi_thread")]
async fn work_with_a_panic() {
    let Ok(event_id) = std::env::var("TESTS_PANIC") else {
        return;
    };
    let inputs = Inputs {
        flags: Arc::default(),
        env: Arc::new(std::env::vars().collect()),
    };
    let config = Config::load(Purpose::Work, inputs).unwrap();
    let _logs = telemetry::start(&config.log);
    let metrics = Metrics::new();
    let stream = RedisStream::new(config.redis.as_ref().unwrap(), &config.stream, metrics.clone()).unwrap();
    let warehouse = PostgresWarehouse::new(config.database.as_ref().unwrap()).unwrap();
    let handler = Panicking(Loader::new(Arc::new(warehouse)), event_id);
    let workers = Workers::new(Arc::new(stream), Arc::new(handler), &config.worker, &metrics);
    workers.run(CancellationToken::new()).await;
}
