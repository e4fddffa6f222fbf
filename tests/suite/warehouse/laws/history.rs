//! What operators read, and what loading known events again does.

use orderstream::warehouse::history::EventPosition;
use time::macros::datetime;

use super::super::events::{ARRIVAL, order};
use super::*;

const BEGIN: time::OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
const END: time::OffsetDateTime = datetime!(2027-01-01 00:00 UTC);

pub async fn known_events_repair_and_changed_ones_do_not(store: &dyn Store) {
    let samples = [
        order("e1", "1", 1, 0).into(),
        order("e2", "1", 2, 1).into(),
        order("e3", "2", 3, 0).into(),
    ];
    load(store, &samples).await;
    store
        .change(
            "UPDATE orders SET status = 'nonsense'; DELETE FROM order_items; DELETE FROM orders WHERE order_id = '2'",
        )
        .await;
    let changed = [order("e2", "1", 9, 9).into()];
    load(store, &changed).await;
    let state = "SELECT o.order_id, status, last_event_id, o.item_count, COALESCE(i.qty, 0) FROM orders o \
                 LEFT JOIN order_items i ON i.shop = o.shop AND i.order_id = o.order_id ORDER BY 1";
    assert_eq!(rows(store, state).await, "1|nonsense|e2|2|0");
    let again = store.open().load(&records(&samples)).await.unwrap();
    assert_eq!((again.inserted, again.known), (0, 3));
    assert_eq!(rows(store, state).await, "1|open|e2|2|2\n2|open|e3|3|3");
    assert_eq!(rows(store, "SELECT count(*) FROM order_events").await, "3");
    // An older one alone changes nothing.
    load(store, &samples[..1]).await;
    assert_eq!(rows(store, state).await, "1|open|e2|2|2\n2|open|e3|3|3");
}

pub async fn history_is_read_page_by_page_and_gives_the_events_back(store: &dyn Store) {
    let samples: Vec<Sample> = (0..7)
        .map(|n| order(&format!("e{n}"), &n.to_string(), n, n).into())
        .collect();
    load(store, &samples).await;
    let warehouse = store.open();
    assert_eq!(warehouse.first(BEGIN, END).await.unwrap(), Some(ARRIVAL));
    assert_eq!(warehouse.first(END, END).await.unwrap(), None);
    let mut place = EventPosition {
        received_at: BEGIN,
        event_id: String::new(),
    };
    assert_eq!(warehouse.count(&place, END).await.unwrap(), 7);
    let mut found = Vec::new();
    loop {
        let page = warehouse.events(&place, END, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        place = last.position();
        found.extend(page);
    }
    assert_eq!(
        Vec::from_iter(found.iter().map(|event| event.event_id.as_str())),
        ["e0", "e1", "e2", "e3", "e4", "e5", "e6"]
    );
    assert_eq!(warehouse.count(&place, END).await.unwrap(), 0);
    assert!(warehouse.events(&place, END, 3).await.unwrap().is_empty());
    empty(store).await;
    let stored = Vec::from_iter(found.iter().map(|event| event.record().unwrap()));
    assert_eq!(
        warehouse.load(&stored).await.unwrap().inserted,
        7,
        "nothing is missing to load them anew"
    );
    assert_eq!(rows(store, "SELECT sum(qty) FROM order_items").await, "21");
}

pub async fn one_order_is_found_by_id_and_name(store: &dyn Store) {
    let named = |event_id: &str, order_id: &str, shop: &str, name: &str| {
        let mut event = order(event_id, order_id, 1, 0);
        event["shop"] = shop.into();
        event["name"] = name.into();
        Sample::from(event)
    };
    let samples = [
        named("e1", "1", "one.myshopify.com", "#1001"),
        named("e2", "2", "two.myshopify.com", "#1001"),
        named("e3", "1", "two.myshopify.com", "#1002"),
    ];
    load(store, &samples).await;
    let warehouse = store.open();
    let event = warehouse.event("e2").await.unwrap().unwrap();
    assert_eq!((event.order_id.as_str(), event.received_at), ("2", ARRIVAL));
    assert_eq!(warehouse.event("e9").await.unwrap(), None);
    let of_one = async |shop| {
        let events = warehouse.events_of("1", shop, 9).await.unwrap();
        Vec::from_iter(events.into_iter().map(|event| event.event_id))
    };
    assert_eq!(of_one(None).await, ["e3", "e1"]);
    assert_eq!(of_one(Some("one.myshopify.com")).await, ["e1"]);
    let shops = warehouse.orders_named("#1001", None, 9).await.unwrap();
    assert_eq!(
        Vec::from_iter(shops.iter().map(|order| order.order_id.as_str())),
        ["1", "2"]
    );
    assert_eq!(
        warehouse
            .orders_named("#1001", Some("two.myshopify.com"), 9)
            .await
            .unwrap()
            .len(),
        1
    );
    let key = |shop: &str| (shop.to_owned(), "2".to_owned());
    let states = warehouse.orders(&[key("two.myshopify.com"), key("")]).await.unwrap();
    let [state] = &states[..] else {
        panic!("one of the two is known: {states:?}")
    };
    assert!(state.as_of.is_some());
    let ids = ["e1", "e2", "never"].map(str::to_owned);
    let mut loaded = warehouse.loaded(&ids).await.unwrap();
    loaded.sort();
    assert_eq!(loaded, ids[..2]);
    assert_eq!(
        (state.last_event_id.as_deref(), state.total_amount.as_deref()),
        (Some("e2"), Some("10"))
    );
}
