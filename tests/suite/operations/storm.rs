//! `send` as a storm: all of it is answered as it should be and lands; and what did not land is found.

use super::*;
use crate::harness::service::SECRET;

/// Exit code and summary of a storm of 400 deliveries, the same each time.
fn storm(settings: &Settings, service: &Service, more: &[&str]) -> (Option<i32>, Value) {
    let url = service.url("").trim_end_matches('/').to_owned();
    let usual = [
        "send", "--storm", "--rate", "0", "--count", "400", "--seed", "7", "--json",
    ];
    let args = [&usual[..], &["--url", &url], more].concat();
    let output = ask(&patient(settings), &args);
    let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let summary = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{errors}"));
    (output.status.code(), summary)
}

pub async fn a_storm_is_answered_as_it_should_be_and_lands(plant: Plant) {
    let both = format!("a newer secret,{SECRET}");
    let settings = plant.settings().with("ORDERSTREAM_SHOPIFY_SECRETS", &both);
    let service = Service::start("run", &settings).await;
    let (code, first) = storm(&settings, &service, &["--verify"]);
    assert_eq!(
        (code, &first["findings"]),
        (Some(0), &serde_json::json!([])),
        "{first:#}"
    );
    let sent = ["event", "late", "duplicate", "old secret", "bad signature", "malformed"]
        .map(|kind| first["kinds"][kind]["sent"].as_u64().unwrap());
    assert_eq!(sent, [284, 40, 20, 40, 8, 8]);
    assert_eq!(
        first["kinds"]["bad signature"]["answers"],
        serde_json::json!({"401 invalid_signature": 8})
    );
    assert_eq!(
        first["kinds"]["malformed"]["answers"],
        serde_json::json!({"200 quarantined": 8})
    );
    let verified = &first["verified"];
    let figures = ["promised", "loaded", "in_dead_letters"].map(|name| verified[name].as_u64().unwrap());
    assert_eq!(figures, [372, 364, 8], "{verified:#}");
    plant.has_rows(364).await;
    assert_eq!(
        plant
            .sql("SELECT count(DISTINCT event_type) > 6 FROM order_events")
            .replace('t', "1"),
        "1"
    );

    let (code, again) = storm(&settings, &service, &["--verify"]);
    assert_eq!((code, &again["verified"]), (Some(0), verified), "all of it is known");
    assert_eq!(again["answers"]["200 accepted"], Value::Null);
    stop(service).await;
}

pub async fn what_did_not_land_is_found(plant: Plant) {
    let settings = plant.settings();
    let service = Service::start("run", &settings).await;
    let (code, summary) = storm(&settings, &service, &["--verify"]);
    assert_eq!(code, Some(0), "{summary:#}");

    let order = plant.sql("SELECT min(order_id) FROM orders WHERE last_event_id IS NOT NULL");
    plant.change(&format!(
        "UPDATE orders SET version_at = '2020-01-01T00:00:00Z' WHERE order_id = '{order}'"
    ));
    let (code, summary) = storm(&settings, &service, &["--verify=1s"]);
    let wrong = &summary["verified"]["orders_wrong"];
    assert_eq!((code, &wrong["count"]), (Some(69), &1.into()), "{summary:#}");
    assert!(
        wrong["first"][0]
            .as_str()
            .unwrap()
            .starts_with(&format!("{order} is older than event "))
    );

    let event = plant.sql(&format!(
        "SELECT min(event_id) FROM order_events WHERE order_id <> '{order}'"
    ));
    plant.change(&format!("DELETE FROM order_events WHERE event_id = '{event}'"));
    let (code, summary) = storm(&settings, &service, &["--verify=1s"]);
    assert_eq!(code, Some(69));
    assert_eq!(
        summary["verified"]["missing"],
        serde_json::json!({"count": 1, "first": [event]})
    );
    let (code, summary) = storm(&settings, &service, &[]);
    assert_eq!((code, &summary["verified"]), (Some(0), &Value::Null), "nobody looked");
    stop(service).await;
}
