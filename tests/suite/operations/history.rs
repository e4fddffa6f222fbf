//! History through again, and one order followed through it.

use serde_json::json;

use super::*;
use crate::harness::service::event;

const STATES: &str = "SELECT count(*) FROM orders WHERE status = 'paid'";
const LINES: &str = "SELECT count(*) FROM order_items";
const EVENTS: &str = "SELECT count(*) FROM order_events";

/// Orders 1 to 5, loaded and acked.
async fn with_orders(plant: &Plant, settings: &Settings) -> Service {
    let service = Service::start("run", settings).await;
    for id in 1..=5 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    plant.has_rows(5).await;
    is_settled(&service).await;
    service
}

fn damage(plant: &Plant) {
    plant.change("UPDATE orders SET status = 'nonsense' WHERE order_id IN ('2', '3')");
    plant.change("DELETE FROM order_items WHERE order_id = '3'");
    plant.change("DELETE FROM orders WHERE order_id = '4'");
    assert_eq!((plant.sql(STATES), plant.sql(LINES)), ("2".to_owned(), "4".to_owned()));
}

async fn is_repaired(plant: &Plant) {
    plant.answers(STATES, "5").await;
    plant.answers(LINES, "5").await;
    plant.answers(EVENTS, "5").await;
}

pub async fn a_replay_repairs_and_copies_nothing(plant: Plant) {
    let service = with_orders(&plant, &plant.settings()).await;
    damage(&plant);
    let dry = plant.json(&["replay", "--dry-run"]);
    assert_eq!((&dry["pending"], &dry["applied"]), (&5.into(), &0.into()), "{dry:#}");
    let replayed = plant.json(&["replay", "--all", "--yes", "--rate", "1000"]);
    assert_eq!(
        (&replayed["pending"], &replayed["missing"]),
        (&5.into(), &Value::Null),
        "{replayed:#}"
    );
    is_repaired(&plant).await;
    is_settled(&service).await;
    holds(&service, 5).await;
    if let Plant::Servers(site) = &plant {
        for_another_group(&plant, site).await;
        is_settled(&service).await;
    }
    let (code, said) = plant.says(&["replay", "--all", "--yes", "--group", "nobodys"]);
    assert_eq!(code, Some(69), "{said}");
    let nothing = plant.json(&["replay", "--from", "2999-01-01", "--yes"]);
    assert_eq!(nothing["pending"], 0);
    let notes = api(&service, "/api/audit").await;
    assert!(notes.to_string().contains("the first to the newest"), "{notes:#}");

    stop(service).await;
    damage(&plant);
    assert_eq!(
        plant.json(&["replay", "--all", "--yes"])["pending"],
        5,
        "while nobody runs"
    );
    for args in [&["replay", "--dry-run"][..], &["replay", "--all", "--yes"]] {
        let again = plant.json(args);
        assert_eq!((&again["pending"], &again["left"]), (&0.into(), &5.into()), "{again:#}");
    }
    let _service = plant.run().await;
    is_repaired(&plant).await;
}

/// It has read and acked everything, and gets it again; ours gets nothing.
async fn for_another_group(plant: &Plant, site: &Site) {
    site.redis
        .command::<()>(&["XGROUP", "CREATE", "orders_stream", "others", "0"])
        .await;
    let read = [
        "XREADGROUP",
        "GROUP",
        "others",
        "x",
        "NOACK",
        "STREAMS",
        "orders_stream",
        ">",
    ];
    site.redis.command::<redis::Value>(&read).await;
    assert_eq!(
        plant.json(&["replay", "--all", "--yes", "--group", "others"])["pending"],
        5
    );
    let pending: Vec<redis::Value> = site
        .redis
        .command(&["XPENDING", "orders_stream", "others", "-", "+", "9"])
        .await;
    assert_eq!(pending.len(), 5);
}

pub async fn what_the_stream_no_longer_has_comes_from_the_warehouse(plant: Plant) {
    let settings = plant.settings().with("ORDERSTREAM_RETAIN_ACKED", "0");
    let service = with_orders(&plant, &settings).await;
    holds(&service, 0).await;
    damage(&plant);
    let replayed = plant.json(&["replay", "--all", "--yes"]);
    assert_eq!(
        (&replayed["pending"], &replayed["applied"]),
        (&0.into(), &5.into()),
        "{replayed:#}"
    );
    is_repaired(&plant).await;
    let (code, said) = plant.says(&["replay", "--from", "2020-01-01", "--dry-run"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("missing: 2020-01-01T00:00:00Z to 2") && said.contains("neither"),
        "{said}"
    );
}

/// Between the last row of a backup and the stream's first entry; and not a moment in which nobody ordered.
pub async fn what_neither_has_is_said(plant: Plant) {
    let settings = plant.settings().with("ORDERSTREAM_RETAIN_ACKED", "0");
    let service = with_orders(&plant, &settings).await;
    holds(&service, 0).await;
    let first = plant.sql("SELECT min(stream_id) FROM order_events");
    let first: u64 = first.split_once('-').unwrap().0.parse().unwrap();
    let from = format!("{}-0", first - 30_000);
    let replayed = plant.json(&["replay", "--from", &from, "--dry-run"]);
    assert_eq!(
        (&replayed["applied"], &replayed["missing"]),
        (&5.into(), &Value::Null),
        "{replayed:#}"
    );
    let from = format!("{}-0", first - 300_000);
    let replayed = plant.json(&["replay", "--from", &from, "--dry-run"]);
    assert!(replayed["missing"].is_object(), "told, and no failure: {replayed:#}");

    plant.change("UPDATE order_events SET received_at = '2026-01-02T00:00:00.000000Z'");
    for args in [
        &["replay", "--dry-run", "--from", "2026-01-02"][..],
        &["replay", "--dry-run"],
    ] {
        let (code, said) = plant.says(args);
        assert_eq!(code, Some(69), "{said}");
        assert!(
            said.contains("5  events") && said.contains("missing: 2026-01-02T00:00:00Z to 2"),
            "{said}"
        );
    }
}

/// An old pending entry keeps its place, what was acked behind it goes.
pub async fn what_is_gone_behind_a_pending_entry_comes_from_the_warehouse(plant: Plant) {
    let settings = plant.settings().with("ORDERSTREAM_RETAIN_ACKED", "0");
    let service = Service::start("run", &settings.with("ORDERSTREAM_MAX_DELIVERIES", "1000")).await;
    assert_eq!(service.deliver_order(5).await, Some(200));
    plant.has_rows(1).await;
    plant.refuse(1);
    for id in 1..=4 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    plant.has_rows(4).await;
    // The last one that was read stays, too.
    holds(&service, 2).await;
    plant.change("UPDATE orders SET status = 'nonsense' WHERE order_id IN ('2', '3')");
    let from = plant.sql("SELECT stream_id FROM order_events WHERE order_id = '2'");
    let replayed = plant.json(&["replay", "--from", &from, "--yes"]);
    assert_eq!(
        (&replayed["applied"], &replayed["missing"]),
        (&3.into(), &Value::Null),
        "{replayed:#}"
    );
    plant.answers(STATES, "4").await;
}

/// It has all that was ever appended to it, as far as it knows.
pub async fn a_stream_that_was_emptied_does_not_hide_the_warehouse(plant: Plant) {
    let service = with_orders(&plant, &plant.settings()).await;
    damage(&plant);
    let _service = match &plant {
        Plant::Servers(site) => {
            site.redis.command::<()>(&["FLUSHALL"]).await;
            service
        }
        Plant::Files(local) => {
            stop(service).await;
            for file in ["stream.db", "stream.db-wal", "stream.db-shm"] {
                drop(std::fs::remove_file(local.data_dir().join(file)));
            }
            plant.run().await
        }
    };
    let dry = plant.json(&["replay", "--dry-run"]);
    assert_eq!(dry["applied"], 5, "{dry:#}");
    let replayed = plant.json(&["replay", "--all", "--yes"]);
    assert_eq!(
        (&replayed["applied"], &replayed["missing"]),
        (&5.into(), &Value::Null),
        "{replayed:#}"
    );
    is_repaired(&plant).await;
}

/// A look at five rows takes longer than a statement may, one at the first or the last does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_does_what_it_can_where_counting_takes_too_long() {
    let plant = Plant::servers().await;
    let settings = plant.settings().with("ORDERSTREAM_RETAIN_ACKED", "0");
    let service = with_orders(&plant, &settings).await;
    holds(&service, 0).await;
    stop(service).await;
    plant.change(
        "CREATE FUNCTION slow(at timestamptz) RETURNS bool LANGUAGE plpgsql VOLATILE COST 1000000 AS \
         $$ BEGIN PERFORM pg_sleep(0.6); RETURN true; END $$; \
         ALTER TABLE order_events RENAME TO slow_events; \
         CREATE VIEW order_events AS SELECT * FROM slow_events WHERE orderstream.slow(received_at)",
    );
    let settings = settings.with("ORDERSTREAM_STATEMENT_TIMEOUT", "2s");
    let [dry, said] = [&["--json"][..], &[]].map(|json| {
        let output = ask(&settings, &[&["replay", "--dry-run"], json].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    });
    let dry: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!(
        (&dry["counted"], &dry["applied"]),
        (&false.into(), &0.into()),
        "{dry:#}"
    );
    assert!(said.contains("could not be counted"), "{said}");
}

pub async fn a_rebuild_repairs_while_the_service_runs(plant: Plant) {
    let service = with_orders(&plant, &plant.settings()).await;
    damage(&plant);
    let rebuilt = plant.json(&["rebuild"]);
    assert_eq!(
        (&rebuilt["applied"], &rebuilt["complete"]),
        (&5.into(), &true.into()),
        "{rebuilt:#}"
    );
    is_repaired(&plant).await;
    let notes = api(&service, "/api/audit").await;
    assert_eq!(notes[0]["action"], "rebuild");
    let consumers = api(&service, "/api/consumers").await;
    assert_eq!(consumers["groups"][0]["ours"], true);
}

pub async fn a_paused_group_reads_nothing_until_it_is_resumed(plant: Plant) {
    let service = with_orders(&plant, &plant.settings()).await;
    let paused = plant.json(&["pause"]);
    assert_eq!(plant.json(&["pause"]), paused, "the first one stands");
    service.says("the group is paused").await;
    assert_eq!(service.deliver_order(6).await, Some(200));
    let mut of_customer = event(7);
    of_customer["customer_id"] = json!("4711");
    assert_eq!(service.send_batch(&[of_customer].into()).await.unwrap().status(), 200);
    let found = api(&service, "/api/events?customer=4711").await["entries"].clone();
    assert_eq!(
        (found.as_array().unwrap().len(), &found[0]["order_id"]),
        (1, &json!("7"))
    );
    eventually("health says so", PATIENCE, async || {
        let workers = service.health_check("workers").await?;
        let report = api(&service, "/api/status").await;
        let says = workers["detail"].as_str()?.contains("2 entries wait");
        (says && workers["status"] == "warning" && report["paused_since"] == paused["paused_since"]).then_some(())
    })
    .await;
    // What a replay makes pending is not claimed either, though it is stale at once.
    let replayed = plant.json(&["replay", "--all", "--yes", "--rate", "1000"]);
    assert_eq!(replayed["pending"], 5);
    let (_, said) = plant.says(&["status"]);
    assert!(said.contains("paused by an operator since"), "{said}");
    let states = async || {
        let page = api(&service, "/api/events?states=true").await;
        let state = |entry: &Value| (entry["state"]["stage"].clone(), entry["outcome"].clone());
        Vec::from_iter(page["entries"].as_array().unwrap().iter().map(state))
    };
    let (unread, pending) = ((json!("unread"), Value::Null), (json!("pending"), Value::Null));
    let expected = [vec![unread; 2], vec![pending; 5]].concat();
    assert_eq!(states().await, expected);
    assert_eq!(plant.sql(EVENTS), "5");

    assert_eq!(plant.json(&["resume"])["paused_since"], Value::Null);
    plant.has_rows(7).await;
    is_settled(&service).await;
    assert_eq!(states().await, vec![(json!("settled"), json!("loaded")); 7]);
    let id = found[0]["id"].as_str().unwrap();
    let loaded = api(&service, &format!("/api/loaded/{id}")).await;
    assert_eq!(
        (&loaded["order_id"], &loaded["event_id"]),
        (&json!("7"), &json!("event-7")),
        "{loaded:#}"
    );
    let audit = api(&service, "/api/audit").await;
    let actions = Vec::from_iter(audit.as_array().unwrap().iter().map(|note| note["action"].clone()));
    assert_eq!(
        (&actions[0], actions.contains(&json!("pause"))),
        (&json!("resume"), true)
    );
}

pub async fn a_run_of_many_steps_is_written_down_as_one(plant: Plant) {
    let service = with_orders(&plant, &plant.settings()).await;
    // At one a second a step is two entries.
    let step = async |next: &Value, stop: bool| {
        let request = json!({"rate": 1, "next": next, "stop": stop});
        tell(&service, "/api/replay", &request).await["next"].clone()
    };
    let mut next = step(&Value::Null, false).await;
    while !next.is_null() {
        next = step(&next, false).await;
    }
    is_settled(&service).await;
    let next = step(&Value::Null, false).await;
    assert_eq!(step(&next, true).await, Value::Null);
    let rest =
        json!({"stored": {"after": "2026-01-01T00:00:00Z", "before": "2026-01-02T00:00:00Z"}, "done": 7, "left": 1});
    tell(&service, "/api/rebuild", &json!({"next": rest, "stop": true})).await;
    let notes = api(&service, "/api/audit").await;
    let notes = notes.as_array().unwrap().iter().map(|note| {
        let stage = note["what"].as_str().unwrap().rsplit(", ").next().unwrap();
        (stage, note["done"].as_u64().unwrap(), note["kept"].as_u64().unwrap())
    });
    let told = [
        ("interrupted", 7, 1),
        ("interrupted", 2, 0),
        ("begun", 2, 0),
        ("to the end", 5, 0),
        ("begun", 2, 0),
    ];
    assert_eq!(Vec::from_iter(notes), told);

    let events: Vec<Value> = (10..50).map(event).collect();
    assert_eq!(service.send_batch(&events.into()).await.unwrap().status(), 200);
    plant.has_rows(45).await;
    is_settled(&service).await;
    let mut command = plant.settings().command(&["replay", "--all", "--yes", "--rate", "1"]);
    let mut run = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let newest = async || api(&service, "/api/audit?count=1").await[0].clone();
    let is = |note: &Value, stage| note["what"].as_str().is_some_and(|what| what.ends_with(stage));
    eventually("it has begun", PATIENCE, async || {
        let note = newest().await;
        is(&note, "begun").then_some(())
    })
    .await;
    let pid = nix::unistd::Pid::from_raw(run.id().try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(69));
    let note = newest().await;
    assert!(is(&note, "interrupted") && note["done"].as_u64() >= Some(2), "{note:#}");
}

pub async fn the_sales_of_a_day_stand_beside_those_of_a_week_before(plant: Plant) {
    let service = with_orders(&plant, &plant.settings()).await;
    let mut other = crate::harness::service::order(6);
    for time in ["created_at", "processed_at"] {
        other[time] = "2026-01-12T23:30:00-05:00".into();
    }
    (other["currency"], other["total_price"]) = ("USD".into(), "0.10".into());
    other["subtotal_price"] = "0.10".into();
    other["line_items"][0]["price"] = "0.05".into();
    let sent = service
        .deliver("orders/create", "webhook-6", other.to_string().as_bytes())
        .await;
    assert_eq!(sent.unwrap().status(), 200);
    // Of no shop.
    let sent = service.send_batch(&json!([event(7)])).await;
    assert_eq!(sent.unwrap().status(), 200);
    plant.has_rows(7).await;
    let of = async |day: &str| api(&service, &format!("/api/sales?date={day}")).await;
    let (none, euros) = (json!({"orders": 0, "net": "0"}), json!({"orders": 6, "net": "123"}));
    assert_eq!(
        of("2026-01-12").await,
        json!({"date": "2026-01-12", "week_before": "2026-01-05", "currencies": [
            {"currency": "EUR", "day": none, "week_before": euros},
            {"currency": "USD", "day": {"orders": 1, "net": "0.1"}, "week_before": none},
        ]})
    );
    let first = of("2026-01-05").await;
    assert_eq!(
        first["currencies"],
        json!([{"currency": "EUR", "day": euros, "week_before": none}])
    );
    assert_eq!(api(&service, "/api/sales").await["currencies"], json!([]));
    for wrong in ["2026-13-01", "today"] {
        let path = format!("/api/sales?date={wrong}");
        let asked = reqwest::Client::new().get(service.admin_url(&path)).bearer_auth(TOKEN);
        assert_eq!(asked.send().await.unwrap().status().as_u16() / 100, 4, "{wrong}");
    }
}

pub async fn a_trace_shows_the_whole_way_of_an_order(plant: Plant) {
    let service = with_orders(&plant, &plant.settings()).await;
    let bad = r##"{"id":3,"name":"#3","line_items":"none"}"##;
    let answer = service.deliver("orders/updated", "bad", bad.as_bytes()).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["status"], "quarantined");
    for order in ["3", "#3"] {
        let trace = plant.json(&["trace", order]);
        let stations = Vec::from_iter(
            trace["moments"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["what"].clone()),
        );
        for station in ["happened", "received", "settled", "loaded", "dead_lettered"] {
            assert!(stations.contains(&station.into()), "{station} is not in {trace:#}");
        }
        assert_eq!(stations[0], "happened", "by time: {trace:#}");
        assert_eq!(trace["orders"][0]["status"], "paid");
        assert_eq!(trace["orders"].as_array().unwrap().len(), 1);
    }
    let (code, said) = plant.says(&["trace", "#3", "--shop", "tests.myshopify.com"]);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "appended to the stream as",
        "it is the order's newest state",
        "rejected at intake",
        "no spool to read",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let (code, said) = plant.says(&["trace", "#3", "--shop", "another.myshopify.com"]);
    assert_eq!(code, Some(69), "{said}");
    stop(service).await;
    plant.json(&["replay", "--all", "--yes"]);
    let trace = plant.json(&["trace", "4"]);
    assert_eq!(trace["orders"][0]["name"], "#4", "without a process too");
    let moments = trace["moments"].as_array().unwrap();
    let pending = moments.iter().find(|one| one["what"] == "pending").unwrap();
    let detail = pending["detail"].as_str().unwrap();
    assert!(
        pending["at"].is_null() && detail.contains("made pending again by a replay"),
        "{detail}"
    );
}

/// A worker gave it up, it was sent through again, and is given up once more: both entries stand.
pub async fn a_trace_shows_each_entry_of_an_event(plant: Plant) {
    let service = with_orders(&plant, &plant.settings()).await;
    plant.refuse(6);
    assert_eq!(service.deliver_order(6).await, Some(200));
    let letters = async || api(&service, "/api/dead-letters").await["letters"].clone();
    let given_up = async |but: &Value| {
        eventually("it is given up", PATIENCE, async || {
            let letter = letters().await[0].clone();
            (letter["id"].is_string() && letter["original_id"] != *but).then_some(letter["original_id"].clone())
        })
        .await
    };
    let first = given_up(&Value::Null).await;
    plant.json(&["dead-letters", "replay", "--all", "--yes"]);
    let second = given_up(&first).await;
    let trace = plant.json(&["trace", "6"]);
    let ids = |what: &str| {
        let mut moments = trace["moments"].as_array().unwrap().clone();
        moments.retain(|one| one["what"] == what && one["stands"] == true);
        Vec::from_iter(moments.into_iter().map(|one| one["stream_id"].clone()))
    };
    assert_eq!(ids("received"), [first, second.clone()], "{trace:#}");
    assert!(ids("settled").contains(&second), "{trace:#}");
}

/// Whether it was loaded is not told then, nor of an entry whose event has an id that no warehouse takes.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_laid_open_while_the_warehouse_is_away() {
    let site = Site::durable().await;
    let service = Service::start("run", &site.settings()).await;
    let event = crate::harness::service::event(1);
    let id = site.produce(&event).await;
    let odd = site.produce_payload("nul\0", &event.to_string()).await;
    site.has_rows(1).await;
    let opened = async |id: &str| api(&service, &format!("/api/events/{id}")).await;
    assert!(opened(&id).await["loaded_at"].is_string());
    assert_eq!(opened(&odd).await["loaded_at"], Value::Null);
    site.cluster().kill();
    let away = opened(&id).await;
    assert_eq!(
        (&away["loaded_at"], &away["entry"]["order_id"]),
        (&Value::Null, &"1".into())
    );
}
