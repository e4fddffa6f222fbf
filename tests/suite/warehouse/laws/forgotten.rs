//! Whom the warehouse has forgotten stays out of it.

use orderstream::warehouse::ForgottenSubject;
use serde_json::json;

use super::super::events::{Sample, order, record};
use super::{Store, rows};

const SHOP: &str = "one.myshopify.com";
const EVENTS: &str = "SELECT event_id, customer_id, raw IS NOT NULL FROM order_events ORDER BY 1";
const ORDERS: &str = "SELECT shop, order_id, customer_id FROM orders ORDER BY 1, 2";

async fn load(store: &dyn Store, samples: &[Sample]) {
    let records: Vec<_> = samples
        .iter()
        .map(|sample| {
            let mut record = record(sample);
            record.raw = Some((&b"a body"[..]).into());
            record
        })
        .collect();
    let loaded = store.open().load(&records).await.unwrap();
    assert_eq!(loaded.conflicts, Vec::<usize>::new());
}

pub async fn who_was_forgotten_stays_out_whoever_loads(store: &dyn Store) {
    let mut asked = order("e1", "1", 1, 0);
    asked["details"] = json!({"tags": ["gift"], "note_attributes": [{"name": "card", "value": "for Ann"}]});
    asked["items"][0]["properties"] = json!([{"name": "engraving", "value": "Ann"}]);
    let mut other = order("e2", "2", 1, 0);
    other["customer_id"] = "901".into();
    let mut elsewhere = order("e3", "3", 1, 0);
    elsewhere["shop"] = "two.myshopify.com".into();
    let stored: Vec<Sample> = vec![asked.into(), other.into(), elsewhere.into()];
    load(store, &stored).await;
    let figures = rows(store, "SELECT * FROM daily_sales ORDER BY 1, 2, 3").await;

    let warehouse = store.open();
    for _ in 0..2 {
        warehouse
            .forget(&[ForgottenSubject::customer(SHOP, "900")])
            .await
            .unwrap();
    }
    assert_eq!(
        rows(store, "SELECT count(*) FROM forgotten").await,
        "2",
        "with the row of the key"
    );
    // What is stored loses the person when it is loaded again, as a rebuild does.
    load(store, &stored).await;
    assert_eq!(rows(store, EVENTS).await, "e1||0\ne2|901|1\ne3|900|1");
    assert_eq!(
        rows(store, ORDERS).await,
        "one.myshopify.com|1|\none.myshopify.com|2|901\ntwo.myshopify.com|3|900"
    );
    assert_eq!(
        rows(store, "SELECT details FROM orders WHERE order_id = '1'").await,
        r#"{"tags":["gift"]}"#
    );
    assert_eq!(
        rows(store, "SELECT properties FROM order_items WHERE order_id = '1'").await,
        ""
    );
    let payload = rows(store, "SELECT payload FROM order_events WHERE event_id = 'e1'").await;
    assert!(!payload.contains("900") && !payload.contains("Ann"), "{payload}");
    assert_eq!(rows(store, "SELECT * FROM daily_sales ORDER BY 1, 2, 3").await, figures);

    // A later event, one that comes a second time, and a process that knows no tombstone yet.
    load(store, &[order("e4", "1", 2, 5).into(), order("e5", "5", 2, 5).into()]).await;
    load(store, &stored).await;
    assert_eq!(
        rows(store, "SELECT count(*) FROM order_events WHERE customer_id = '900'").await,
        "1"
    );
    assert_eq!(
        rows(store, "SELECT count(*) FROM orders WHERE customer_id = '900'").await,
        "1"
    );
    assert_eq!(
        rows(store, "SELECT item_count FROM orders WHERE order_id = '1'").await,
        "2"
    );

    warehouse
        .forget(&[ForgottenSubject::shop("two.myshopify.com")])
        .await
        .unwrap();
    load(store, &stored).await;
    assert_eq!(rows(store, ORDERS).await.matches("900").count(), 0);
}

pub async fn an_order_is_forgotten_without_its_customer(store: &dyn Store) {
    let mut guest = order("e1", "1", 1, 0);
    guest["customer_id"] = json!(null);
    load(store, &[guest.clone().into(), order("e2", "2", 1, 0).into()]).await;
    store
        .open()
        .forget(&[ForgottenSubject::order(SHOP, "1")])
        .await
        .unwrap();
    load(store, &[guest.into()]).await;
    assert_eq!(rows(store, EVENTS).await, "e1||0\ne2|900|1");
}
