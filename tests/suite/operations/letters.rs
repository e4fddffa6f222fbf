//! Dead letters: seen by cause, judged, sent through again, discarded.

use time::{Duration, OffsetDateTime};

use super::*;
use crate::harness::service::{event, order};

/// Waits until there are so many.
async fn has_letters(service: &Service, count: u64) {
    eventually(&format!("{count} dead letters"), PATIENCE, async || {
        (api(service, "/api/dead-letters/groups").await["looked_at"] == count).then_some(())
    })
    .await;
}

/// Two deliveries with the same fault, and one with another.
async fn with_quarantined(plant: &Plant) -> Service {
    let service = plant.run().await;
    for (topic, id, body) in [
        ("orders/create", "a", r#"{"id":1,"email":"x@example.com"}"#),
        ("orders/create", "b", r#"{"id":22,"email":"y@example.com"}"#),
        ("products/create", "c", "{}"),
    ] {
        let answer = service.deliver(topic, id, body.as_bytes()).await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "quarantined");
    }
    service
}

pub async fn what_was_quarantined_is_seen_by_cause_and_discarded(plant: Plant) {
    let service = with_quarantined(&plant).await;
    let found = plant.json(&["dead-letters", "list"]);
    let counts = Vec::from_iter(
        found["groups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| group["count"].clone()),
    );
    assert_eq!(counts, [2, 1], "{found:#}");
    assert_eq!(found["letters"].as_array().unwrap().len(), 3);
    assert!(!found.to_string().contains("example.com"), "nothing personal in a list");
    let cause = found["groups"][0]["fingerprint"].as_str().unwrap();
    let newest = found["letters"][0]["id"].as_str().unwrap();
    let (_, shown) = plant.says(&[
        "dead-letters",
        "show",
        found["groups"][0]["sample"]["id"].as_str().unwrap(),
    ]);
    let is_redacted = shown.contains(r#"{"id":22}"#) && !shown.contains("example.com");
    assert!(is_redacted, "the body is there without its personal fields: {shown}");
    let is_encoded_left_out = shown.contains(" bytes, below as the body");
    assert!(is_encoded_left_out, "what is encoded is no reading: {shown}");
    let (_, listed) = plant.says(&["dead-letters", "list"]);
    assert!(listed.contains("fingerprint") && listed.contains(newest), "{listed}");

    let judged = plant.json(&["dead-letters", "replay", "--all", "--dry-run"]);
    assert_eq!((&judged["done"], &judged["kept"]), (&0.into(), &3.into()), "{judged:#}");
    let ids = found["letters"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|letter| ["--id", letter["id"].as_str().unwrap()]);
    let replay = Vec::from_iter(["dead-letters", "replay", "--rate", "1"].into_iter().chain(ids));
    let (code, said) = plant.says(&replay);
    let all_stay = code == Some(69) && said.contains("0 replayed, 3 kept");
    assert!(all_stay, "in two steps, what the code cannot read stays: {said}");
    let (code, said) = plant.says(&["dead-letters", "discard", "--fingerprint", cause]);
    assert_eq!(
        (code, said.contains("--yes")),
        (Some(64), true),
        "nobody can be asked: {said}"
    );
    let other = found["groups"][1]["fingerprint"].as_str().unwrap();
    let prefix = a_prefix_is_enough(&plant, cause, other);
    has_letters(&service, 1).await;
    what_was_done_is_written(&service, &plant, &prefix).await;

    stop(service).await;
    the_last_one_goes_without_a_process(&plant, newest);
}

/// Discards the letters of that cause by as many digits as tell it from the other; answers those.
fn a_prefix_is_enough(plant: &Plant, cause: &str, other: &str) -> String {
    let alike = cause.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let prefix = &cause[..=alike];
    assert_eq!(
        plant.json(&["dead-letters", "list", "--fingerprint", prefix])["letters"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let discarded = plant.json(&["dead-letters", "discard", "--fingerprint", prefix, "--yes"]);
    assert_eq!(discarded["done"], 2);
    for args in [
        &["list"][..],
        &["replay", "--yes"],
        &["replay", "--dry-run"],
        &["discard", "--yes"],
    ] {
        let (code, said) = plant.says(&[&["dead-letters"], args, &["--fingerprint", cause]].concat());
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{args:?}: {said}");
        assert!(said.contains("no dead letter has a fingerprint"), "{args:?}: {said}");
    }

    prefix.to_owned()
}

async fn what_was_done_is_written(service: &Service, plant: &Plant, prefix: &str) {
    let notes = api(service, "/api/audit").await;
    let written = Vec::from_iter(
        notes
            .as_array()
            .unwrap()
            .iter()
            .map(|note| (note["done"].clone(), note["kept"].clone())),
    );
    let (kept_two, kept_one) = ((0.into(), 2.into()), (0.into(), 1.into()));
    assert_eq!(
        written,
        [(2.into(), 0.into()), kept_one, kept_two],
        "two steps that kept all, and no dry run: {notes:#}"
    );
    let what = format!("fingerprint {prefix}");
    assert_eq!(
        (&notes[0]["action"], &notes[0]["what"]),
        (&"dead-letters discard".into(), &what.into())
    );
    assert_eq!(notes[0]["done"], 2);
    assert!(
        matches!(plant, Plant::Files(_)) == (notes[0]["by"] == "api"),
        "{notes:#}"
    );
}

fn the_last_one_goes_without_a_process(plant: &Plant, newest: &str) {
    assert_eq!(plant.json(&["dead-letters", "list"])["letters"][0]["id"], *newest);
    assert_eq!(
        plant.json(&["dead-letters", "discard", "--id", newest, "--yes"])["done"],
        1
    );
    let (code, said) = plant.says(&["dead-letters", "list"]);
    assert_eq!((code, said.trim()), (Some(0), "no dead letters"));
    for args in [&["show", newest][..], &["replay", "--id", newest]] {
        let (code, said) = plant.says(&[&["dead-letters"], args].concat());
        assert_eq!((code, said.contains("no such")), (Some(69), true), "{said}");
    }
}

pub async fn what_the_warehouse_refused_lands_once_it_is_mended(plant: Plant) {
    let service = plant.run().await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    plant.has_rows(1).await;
    plant.refuse(7);
    for id in 5..10 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    has_letters(&service, 1).await;
    let letter = api(&service, "/api/dead-letters").await["letters"][0].clone();
    assert_eq!(
        (&letter["origin"], &letter["attempts"]),
        (&"worker".into(), &1.into()),
        "{letter:#}"
    );
    let id = letter["id"].as_str().unwrap();
    let view = api(&service, &format!("/api/dead-letters/{id}")).await;
    assert_eq!(view["content"]["event"]["order_id"], "7");
    let judged = plant.json(&["dead-letters", "replay", "--id", id, "--dry-run"]);
    assert_eq!(judged["event_types"]["order.created"], 1);
    plant.accept();
    let replayed = plant.json(&["dead-letters", "replay", "--all", "--yes", "--rate", "50"]);
    assert_eq!((&replayed["done"], &replayed["complete"]), (&1.into(), &true.into()));
    plant.has_rows(6).await;
    let rows = "SELECT count(*) FROM orders WHERE order_id = '7' AND total_amount IS NOT NULL";
    plant.answers(rows, "1").await;
    has_letters(&service, 0).await;
    let entries = api(&service, "/api/events?order=%237").await;
    let lines = entries["entries"].as_array().unwrap();
    assert_eq!(
        (lines.len(), &lines[0]["event_id"]),
        (2, &lines[1]["event_id"]),
        "{entries:#}"
    );
}

pub async fn a_reused_webhook_id_does_not_keep_an_order_out(plant: Plant) {
    let service = plant.run().await;
    for (id, status) in [(1, "accepted"), (2, "quarantined")] {
        let answer = service
            .deliver("orders/create", "same", order(id).to_string().as_bytes())
            .await;
        assert_eq!(answer.unwrap().json::<Value>().await.unwrap()["status"], status);
    }
    let replayed = plant.json(&["dead-letters", "replay", "--all", "--yes"]);
    assert_eq!(replayed["event_types"]["order.created"], 1, "{replayed:#}");
    plant.has_rows(2).await;
    assert_eq!(plant.sql("SELECT count(*) FROM orders"), "2");
    has_letters(&service, 0).await;
}

pub async fn an_id_that_the_door_forgot_does_not_keep_an_order_out(plant: Plant) {
    used_again(&plant, ("ORDERSTREAM_DEDUPE_WINDOW", "1s")).await;
}

pub async fn without_dedupe_a_used_id_does_not_keep_an_order_out(plant: Plant) {
    used_again(&plant, ("ORDERSTREAM_DEDUPE_BY", "off")).await;
}

/// The status that the delivery of that order under that webhook id is answered.
async fn delivered(service: &Service, webhook_id: &str, id: u64) -> String {
    let body = order(id).to_string();
    let answer = service.deliver("orders/create", webhook_id, body.as_bytes()).await;
    let answer: Value = answer.unwrap().json().await.unwrap();
    answer["status"].as_str().unwrap().to_owned()
}

/// The door takes an id for a new one that the warehouse knows: a second delivery costs nothing, another body becomes a
/// dead letter and lands by a replay.
async fn used_again(plant: &Plant, (name, value): (&str, &str)) {
    let service = Service::start("run", &plant.settings().with(name, value)).await;
    assert_eq!(delivered(&service, "same", 1).await, "accepted");
    assert_eq!(delivered(&service, "probe", 9).await, "accepted");
    eventually("the ids are forgotten", PATIENCE, async || {
        (delivered(&service, "probe", 9).await == "accepted").then_some(())
    })
    .await;
    assert_eq!(delivered(&service, "same", 2).await, "accepted");
    has_letters(&service, 1).await;
    is_settled(&service).await;
    let letters = api(&service, "/api/dead-letters").await;
    let letter = &letters["letters"][0];
    assert_eq!(letter["error"], "its id was used for another body", "{letters:#}");
    assert_eq!(letter["origin"], "worker");
    assert_eq!(plant.sql("SELECT order_id FROM orders ORDER BY 1"), "1\n9");

    let replayed = plant.json(&["dead-letters", "replay", "--all", "--yes"]);
    assert_eq!(
        (&replayed["done"], &replayed["kept"]),
        (&1.into(), &0.into()),
        "{replayed:#}"
    );
    plant.has_rows(3).await;
    assert_eq!(plant.sql("SELECT order_id FROM orders ORDER BY 1"), "1\n2\n9");
    is_settled(&service).await;
    has_letters(&service, 0).await;
}

/// Does something on a terminal, each in its way; the last begins a line of its own.
const ACTED_ON: [char; 7] = ['\r', '\u{1b}', '\u{202e}', '\u{2066}', '\u{85}', '\u{2028}', '\n'];

/// In a trace, a list, a letter laid open and what a replay says, with the service and without.
pub async fn a_name_from_outside_does_nothing_on_a_terminal(plant: Plant) {
    let service = plant.run().await;
    let evil = format!("#1{}FORGED", String::from_iter(ACTED_ON));
    let mut named = order(1);
    named["name"] = evil.clone().into();
    assert_eq!(
        service
            .deliver("orders/create", "a", named.to_string().as_bytes())
            .await
            .unwrap()
            .status(),
        200
    );
    plant.has_rows(1).await;
    plant.refuse(2);
    let mut refused = event(2);
    refused["name"] = evil.clone().into();
    refused["shop"] = evil.clone().into();
    assert_eq!(service.send_batch(&[refused].into()).await.unwrap().status(), 200);
    has_letters(&service, 1).await;
    let letter = plant.json(&["dead-letters", "list"])["letters"][0].clone();
    let id = letter["id"].as_str().unwrap();
    let shows = |args: &[&str], wanted: Option<i32>| {
        let (code, said) = plant.says(args);
        assert_eq!(code, wanted, "{args:?}: {said}");
        assert!(!said.contains(&ACTED_ON[..6]), "{args:?}: {said:?}");
        assert!(
            !said.lines().any(|line| line.trim_start().starts_with("FORGED")),
            "{args:?}: {said}"
        );
        said
    };
    let trace = shows(&["trace", "1"], Some(0));
    assert!(trace.contains("#1\u{FFFD}") && trace.contains("FORGED"), "{trace}");
    shows(&["trace", &evil], Some(0));
    shows(&["trace", "2", "--json"], Some(0));
    shows(&["dead-letters", "list"], Some(0));
    assert!(shows(&["dead-letters", "show", id], Some(0)).contains("FORGED"));
    shows(&["dead-letters", "replay", "--id", id, "--dry-run"], Some(0));
    shows(&["replay", "--all", "--yes", "--group", &evil], Some(69));
    stop(service).await;
    shows(&["trace", "1"], Some(0));
    shows(&["dead-letters", "show", id], Some(0));
}

/// `ids`: of all dead letters of that cause, newest first.
async fn what_is_exported_is_whole(service: &Service, cause: &str, ids: &[Value]) {
    let export = async |request: Value| {
        let url = service.admin_url("/api/dead-letters/export");
        let sent = reqwest::Client::new().post(url).bearer_auth(TOKEN).json(&request);
        let answer: Value = sent.send().await.unwrap().json().await.unwrap();
        answer["letters"].as_array().cloned()
    };
    let letters = export(serde_json::json!({"fingerprint": cause})).await.unwrap();
    let oldest_first = Vec::from_iter(letters.iter().map(|letter| letter["id"].clone()).rev());
    assert_eq!(oldest_first, ids, "{letters:?}");
    assert_eq!(letters[1]["body"], r#"{"id":333}"#, "its body is unpacked");
    let error = letters[1]["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["name"] == "error");
    assert!(error.is_some_and(|error| error["binary"] == false), "{letters:?}");
    let first = export(serde_json::json!({"ids": [ids[0]]})).await.unwrap();
    assert_eq!(first, [letters[1].clone()]);
    let before = serde_json::json!({"from": "0-0", "to": ids[1]});
    let until = export(serde_json::json!({"all": true, "next": before})).await.unwrap();
    assert!(
        until.contains(&letters[0]) && !until.contains(&letters[1]),
        "up to a bound: {until:?}"
    );
    assert_eq!(export(serde_json::json!({})).await, None, "without a selector");
}

/// Only on servers can a letter be written as a worker does that died before its ack.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_laid_open_knows_its_copies_and_its_entry() {
    let site = Site::new().await;
    let write = async |stream: &str, entry: &str, event_id: &str| {
        let fields = format!("original_stream {stream} original_id {entry} event_id {event_id} error refused");
        let words = format!("XADD dead_letters * {fields}");
        site.redis.command::<String>(&Vec::from_iter(words.split(' '))).await
    };
    let service = Service::start("serve", &site.settings()).await;
    assert_eq!(service.send_batch(&[event(1)].into()).await.unwrap().status(), 200);
    let entries = api(&service, "/api/events").await;
    let entry = entries["entries"][0]["id"].as_str().unwrap();
    let older = write("orders_stream", entry, "event-1").await;
    let other = write("orders_stream", "1-1", "event-2").await;
    let newer = write("orders_stream", entry, "event-1").await;
    let foreign = write("another_stream", entry, "event-3").await;
    let open = async |id: &str| api(&service, &format!("/api/dead-letters/{id}")).await;
    for id in [&older, &newer] {
        let view = open(id).await;
        assert_eq!(view["letter"]["copies"], serde_json::json!([newer, older]), "{view:#}");
        assert_eq!(
            (&view["letter"]["id"], &view["entry_stands"]),
            (&(*id).clone().into(), &true.into())
        );
    }
    let view = open(&other).await;
    assert_eq!(view["letter"]["copies"], serde_json::json!([other]), "{view:#}");
    assert_eq!(view["entry_stands"], false, "it was trimmed");
    assert_eq!(
        open(&foreign).await["entry_stands"],
        false,
        "what has its id is another event"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_letter_has_no_body_and_says_so_when_it_is_replayed() {
    let plant = Plant::servers().await;
    let Plant::Servers(site) = &plant else { unreachable!() };
    let service = with_quarantined(&plant).await;
    let letters = site
        .redis
        .command::<Vec<(String, Vec<String>)>>(&["XRANGE", "dead_letters", "-", "+"])
        .await;
    stop(service).await;
    // As if it had been written 40 days ago.
    let written = OffsetDateTime::now_utc() - Duration::days(40);
    let old = format!("{}-0", written.unix_timestamp() * 1000);
    site.redis.command::<()>(&["DEL", "dead_letters"]).await;
    let fields = letters[0].1.iter().map(String::as_str);
    let add = Vec::from_iter(["XADD", "dead_letters", &old].into_iter().chain(fields));
    site.redis.command::<()>(&add).await;
    let before = plant.json(&["dead-letters", "show", &old]);
    assert!(before["content"]["body"].is_string(), "{before:#}");
    let service = plant.run().await;
    let shown = async || api(&service, &format!("/api/dead-letters/{old}")).await;
    eventually("its body is gone", PATIENCE, async || {
        shown().await["content"]["body"].is_null().then_some(())
    })
    .await;
    assert_eq!(shown().await["letter"]["error"], before["letter"]["error"]);
    let (_, said) = plant.says(&["dead-letters", "replay", "--id", &old, "--yes"]);
    assert!(said.contains("ORDERSTREAM_RETAIN_LETTER_BODIES"), "{said}");
    has_letters(&service, 1).await;
    let metrics = service.get(&service.admin_url("/metrics")).await.unwrap();
    assert!(
        metrics
            .text()
            .await
            .unwrap()
            .contains("orderstream_entries_lost_total 0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn none_goes_unasked_where_its_cause_is_one_too_many() {
    let plant = Plant::servers().await;
    let Plant::Servers(site) = &plant else { unreachable!() };
    let write = "local oldest
        for i = 0, 500 do
            local word = string.char(103 + i % 20, 103 + math.floor(i / 20) % 20, 103 + math.floor(i / 400))
            local id = redis.call('XADD', 'dead_letters', '*', 'error', word)
            oldest = oldest or id
        end
        return oldest";
    let oldest: String = site.redis.command(&["EVAL", write, "0"]).await;
    let groups = plant.json(&["dead-letters", "list"]);
    assert_eq!(
        (groups["groups"].as_array().unwrap().len(), &groups["complete"]),
        (500, &false.into())
    );
    let cause = plant.json(&["dead-letters", "show", &oldest])["letter"]["fingerprint"].clone();
    let discard = ["dead-letters", "discard", "--fingerprint", cause.as_str().unwrap()];
    let (code, said) = plant.says(&discard);
    assert_eq!(
        (code, said.contains("at least 0 dead letters")),
        (Some(64), true),
        "{said}"
    );
    // Seventeen causes have two that begin with the same digit.
    let digits = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["fingerprint"].as_str().unwrap()[..1].to_owned());
    let digit = digits.max().unwrap();
    for args in [&["list"][..], &["replay", "--yes"], &["discard", "--dry-run"]] {
        let (code, said) = plant.says(&[&["dead-letters"], args, &["--fingerprint", &digit]].concat());
        assert_eq!(
            (code, said.contains("more than one")),
            (Some(1), true),
            "{args:?}: {said}"
        );
    }
    let service = plant.run().await;
    for (prefix, answer) in [
        (&*digit, (422, "ambiguous_fingerprint")),
        ("none", (404, "no_such_cause")),
    ] {
        let list = service.admin_url(&format!("/api/dead-letters?fingerprint={prefix}"));
        let replay = service.admin_url("/api/dead-letters/replay");
        let client = reqwest::Client::new();
        for request in [
            client.get(list),
            client.post(replay).json(&serde_json::json!({"fingerprint": prefix})),
        ] {
            let refused = request.bearer_auth(TOKEN).send().await.unwrap();
            let status = refused.status().as_u16();
            let problem: Value = refused.json().await.unwrap();
            assert_eq!((status, problem["code"].as_str().unwrap()), answer, "{problem:#}");
        }
    }
    let (code, said) = plant.says(&["dead-letters", "discard", "--all"]);
    assert_eq!(
        (code, said.contains("at least 500 dead letters")),
        (Some(64), true),
        "{said}"
    );
    assert_eq!(plant.json(&[&discard[..], &["--yes"]].concat())["done"], 1);
}

pub async fn an_event_named_as_a_letter_does_not_cost_it(plant: Plant) {
    let service = plant.run().await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    plant.has_rows(1).await;
    plant.refuse(7);
    assert_eq!(service.deliver_order(7).await, Some(200));
    has_letters(&service, 1).await;
    let letter = api(&service, "/api/dead-letters").await["letters"][0].clone();
    let of_customer = api(&service, "/api/events?states=true&customer=no-one").await;
    assert_eq!(of_customer["entries"], serde_json::json!([]));
    eventually("what was settled is told apart", PATIENCE, async || {
        let page = api(&service, "/api/events?states=true").await;
        let outcomes = page["entries"].as_array()?.iter().map(|entry| entry["outcome"].clone());
        (Vec::from_iter(outcomes) == ["dead_lettered", "loaded"]).then_some(())
    })
    .await;
    plant.accept();
    let mut namesake = event(8);
    namesake["event_id"] = format!("letter:{}", letter["id"].as_str().unwrap()).into();
    assert_eq!(service.send_batch(&[namesake].into()).await.unwrap().status(), 200);
    plant.has_rows(2).await;
    let replayed = plant.json(&["dead-letters", "replay", "--all", "--yes"]);
    assert_eq!((&replayed["done"], &replayed["kept"]), (&1.into(), &0.into()));
    plant.has_rows(3).await;
}

pub async fn lists_of_letters_follow_the_log(plant: Plant) {
    let service = with_quarantined(&plant).await;
    let groups = api(&service, "/api/dead-letters/groups").await;
    let same = &groups["groups"][0];
    let (cause, sample) = (
        same["fingerprint"].as_str().unwrap(),
        same["sample"]["id"].as_str().unwrap(),
    );
    // One goes and one comes: the number of letters says nothing of it.
    plant.json(&["dead-letters", "discard", "--id", sample, "--yes"]);
    let body = br#"{"id":333,"email":"z@example.com"}"#;
    let answer = service.deliver("orders/create", "d", body).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["status"], "quarantined");

    let page = api(&service, "/api/dead-letters?count=2").await;
    let newest = &page["letters"][0];
    assert_eq!(newest["fingerprint"], cause, "{page:#}");
    let groups = api(&service, "/api/dead-letters/groups").await;
    assert_eq!(groups["groups"][0]["sample"], *newest, "{groups:#}");
    assert_eq!(groups["groups"][0]["count"], 2);
    let ids = async |path: String| {
        let page = api(&service, &path).await;
        let letters = Vec::from_iter(page["letters"].as_array().unwrap().iter().map(|one| one["id"].clone()));
        (letters, page["next"].clone())
    };
    let (all, next) = ids(format!("/api/dead-letters?fingerprint={cause}")).await;
    assert_eq!((all.len(), &next), (2, &Value::Null));
    let (first, next) = ids(format!("/api/dead-letters?fingerprint={cause}&count=1")).await;
    let next = next.as_str().unwrap();
    let (second, _) = ids(format!("/api/dead-letters?fingerprint={cause}&count=1&to={next}")).await;
    assert_eq!([first, second].concat(), all, "page by page");
    assert!(!all.contains(&sample.into()), "what is gone stays gone");
    what_is_exported_is_whole(&service, cause, &all).await;
}

pub async fn a_trace_finds_the_letters_about_an_order(plant: Plant) {
    let service = with_quarantined(&plant).await;
    let found = async |order: &str| {
        let trace = api(&service, &format!("/api/trace?order={order}")).await;
        let moments = Vec::from_iter(trace["moments"].as_array().unwrap().iter().cloned());
        assert!(moments.iter().all(|one| one["what"] == "dead_lettered"), "{trace:#}");
        assert_eq!(
            trace["letters_looked_back_to"].is_string(),
            trace["letters_looked_at"] != 0
        );
        let ids = moments
            .into_iter()
            .map(|one| one["stream_id"].as_str().unwrap().to_owned());
        (Vec::from_iter(ids), trace["letters_looked_at"].as_u64().unwrap())
    };
    let (letters, looked_at) = found("22").await;
    assert_eq!((letters.len(), looked_at), (1, 3));
    for order in ["2", "222", "%2322", "x22"] {
        assert_eq!(found(order).await, (Vec::new(), 3), "{order} is another order");
    }
    plant.json(&["dead-letters", "discard", "--id", &letters[0], "--yes"]);
    assert_eq!(found("22").await, (Vec::new(), 2), "what is gone is not shown");
    for (topic, id, body) in [
        ("orders/create", "d", r##"{"id":5,"name":"#22","line_items":"none"}"##),
        (
            "orders/create",
            "e",
            r#"{"id":6,"name":"EU-77\/b","line_items":"none"}"#,
        ),
        ("orders/create", "f", r#"{"id":7,"name":"\u00e98","tags":"broken off""#),
        ("refunds/create", "g", r#"{"id":1,"order_id":8,"transactions":7}"#),
        ("products/create", "h", r#"{"id":9,"title":"as in #1042"}"#),
    ] {
        let answer = service.deliver(topic, id, body.as_bytes()).await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "quarantined");
    }
    for order in ["5", "%2322", "6", "EU-77%2Fb", "7", "%C3%A98", "8", "%231042"] {
        let (letters, looked_at) = found(order).await;
        assert_eq!((letters.len(), looked_at), (1, 7), "{order}");
    }
    assert_eq!(found("1").await.0.len(), 1, "the id of a refund is no order's");
    let listed = plant.json(&["dead-letters", "list"]);
    let ids = listed["letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| letter["order_id"].as_str());
    let known = [None, Some("8"), Some("7"), Some("6"), Some("5"), None, Some("1")];
    assert_eq!(Vec::from_iter(ids), known, "{listed:#}");
    let (_, said) = plant.says(&["dead-letters", "list"]);
    assert!(said.contains("  order  "), "{said}");
}

/// By a worker and at the door; what is sent through again does not have it.
pub async fn a_letter_carries_its_order_and_shop(plant: Plant) {
    let service = plant.run().await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    plant.has_rows(1).await;
    plant.refuse(7);
    let mut event = event(7);
    event["shop"] = "tests.myshopify.com".into();
    assert_eq!(service.send_batch(&[event].into()).await.unwrap().status(), 200);
    has_letters(&service, 1).await;
    let body = br#"{"id":22,"line_items":"none"}"#;
    assert_eq!(service.deliver("orders/create", "a", body).await.unwrap().status(), 200);
    let fields = async |id: &str, path: &str| {
        let view = api(&service, &format!("{path}/{id}")).await;
        let fields = view["content"]["fields"].as_array().unwrap().clone();
        Vec::from_iter(fields.into_iter().map(|one| {
            let text = |name: &str| one[name].as_str().unwrap().to_owned();
            (text("name"), text("value"))
        }))
    };
    let listed = plant.json(&["dead-letters", "list"])["letters"].clone();
    for (letter, order_id) in listed.as_array().unwrap().iter().zip(["22", "7"]) {
        assert_eq!(
            (&letter["order_id"], &letter["shop"]),
            (&order_id.into(), &"tests.myshopify.com".into()),
            "{listed:#}"
        );
        let fields = fields(letter["id"].as_str().unwrap(), "/api/dead-letters").await;
        let own = Vec::from_iter(fields.iter().filter(|(name, _)| name == "order_id" || name == "shop"));
        assert_eq!(own.len(), 2, "{fields:?}");
    }
    plant.accept();
    let id = listed[1]["id"].as_str().unwrap();
    assert_eq!(plant.json(&["dead-letters", "replay", "--id", id])["done"], 1);
    plant.has_rows(2).await;
    let entries = api(&service, "/api/events").await["entries"].clone();
    let [again, first] = [0, 1].map(|at| entries[at]["id"].as_str().unwrap());
    assert_eq!(fields(again, "/api/events").await, fields(first, "/api/events").await);
}

/// As an earlier release wrote it.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_without_an_order_id_is_looked_into() {
    let plant = Plant::servers().await;
    let Plant::Servers(site) = &plant else { unreachable!() };
    let service = plant.run().await;
    let mut old = event(77);
    old["shop"] = "tests.myshopify.com".into();
    old["name"] = "#1077".into();
    let payload = old.to_string();
    let body = r#"{"id":88,"line_items":"none"}"#;
    let raw = {
        use base64::Engine as _;
        let packed = zstd::bulk::compress(body.as_bytes(), 3).unwrap();
        base64::engine::general_purpose::STANDARD.encode(packed)
    };
    for fields in [
        &["payload", &payload, "error", "x", "original_id", "1-0"][..],
        &[
            "topic",
            "orders/create",
            "raw",
            &raw,
            "raw_encoding",
            "zstd+base64",
            "error",
            "x",
        ],
    ] {
        let words = [&["XADD", "dead_letters", "*"], fields].concat();
        site.redis.command::<String>(&words).await;
    }
    for (asked, count) in [
        ("77", 1),
        ("%231077", 1),
        ("77&shop=tests.myshopify.com", 1),
        ("77&shop=another.myshopify.com", 0),
        ("88", 1),
        ("8", 0),
    ] {
        let trace = api(&service, &format!("/api/trace?order={asked}")).await;
        assert_eq!(trace["moments"].as_array().unwrap().len(), count, "{asked}: {trace:#}");
    }
}

/// It is written before the ack, so that a worker that dies in between makes for another.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_letter_are_told_once() {
    let plant = Plant::servers().await;
    let Plant::Servers(site) = &plant else { unreachable!() };
    let service = plant.run().await;
    let payload = event(77).to_string();
    for original in ["1-0", "2-0", "1-0"] {
        let letter = [
            "XADD",
            "dead_letters",
            "*",
            "payload",
            &payload,
            "error",
            "x",
            "original_id",
            original,
        ];
        site.redis.command::<String>(&letter).await;
    }
    let trace = api(&service, "/api/trace?order=77").await;
    assert_eq!(trace["moments"].as_array().unwrap().len(), 2, "{trace:#}");
}
