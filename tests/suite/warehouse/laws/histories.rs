//! Order histories with the figures that Shopify's own report gives for each day. Whatever the order of arrival,
//! `daily_sales` says the same, and the ledger adds up to it.

use std::collections::BTreeMap;
use std::path::Path;

use orderstream::shopify::DeliveryHints;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rust_decimal::Decimal;
use serde_json::Value;

use super::super::events::{Sample, records};
use super::{Store, rows};
use crate::captured::{convert, folder};

/// Orders of arrival that are tried for each history, each once event by event and once in one batch.
const SHUFFLES: u64 = 6;

/// What a day's sales are told by, as in the histories; duties and fees are one figure there.
const FIGURES: &str = "gross, discounts, reversals, net, shipping, tax, duties + fees, total";
const NAMES: [&str; 8] = [
    "gross",
    "discounts",
    "reversals",
    "net",
    "shipping",
    "tax",
    "duties_and_fees",
    "total",
];

pub(super) struct History {
    pub(super) name: String,
    /// Topic and body.
    pub(super) deliveries: Vec<(String, Value)>,
    currency: String,
    samples: Vec<Sample>,
    expected: BTreeMap<String, Vec<Decimal>>,
}

impl History {
    fn read(path: &Path) -> Self {
        let told: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let samples = told["deliveries"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
            .map(|(place, delivery)| {
                let body = delivery["body"].to_string();
                let webhook_id = format!("{}-{place}", told["name"]);
                let hints = DeliveryHints {
                    webhook_id: Some(&webhook_id),
                    ..DeliveryHints::default()
                };
                let event = convert(delivery["topic"].as_str().unwrap(), body.as_bytes(), &hints).unwrap();
                Sample::from(serde_json::to_string(&event).unwrap())
            });
        let deliveries = told["deliveries"].as_array().unwrap().iter();
        let deliveries = deliveries.map(|one| (one["topic"].as_str().unwrap().to_owned(), one["body"].clone()));
        let days = told["expected"].as_object().unwrap();
        let figure = |day: &Value, name: &str| day[name].as_str().unwrap_or("0").parse::<Decimal>().unwrap();
        let days = days
            .iter()
            .map(|(day, figures)| (day.clone(), NAMES.map(|name| figure(figures, name)).to_vec()));
        Self {
            name: told["name"].as_str().unwrap().to_owned(),
            currency: told["currency"].as_str().unwrap().to_owned(),
            deliveries: deliveries.collect(),
            samples: samples.collect(),
            // A day without any figure may be absent.
            expected: days
                .filter(|(_, figures)| figures.iter().any(|figure| !figure.is_zero()))
                .collect(),
        }
    }

    /// The events as a shop of that name would have sent them.
    pub(super) fn of_shop(&self, shop: &str) -> Vec<Sample> {
        let renamed = |sample: &Sample| {
            let mut event: Value = serde_json::from_str(&sample.payload).unwrap();
            event["shop"] = shop.into();
            event["event_id"] = format!("{}-{shop}", event["event_id"].as_str().unwrap()).into();
            Sample {
                payload: event.to_string(),
                triggered_at: sample.triggered_at,
            }
        };
        self.samples.iter().map(renamed).collect()
    }

    pub(super) async fn is_told(&self, store: &dyn Store, shop: &str, what: &str) {
        for (view, sql) in [
            (
                "daily_sales",
                format!("SELECT local_date, currency, {FIGURES} FROM daily_sales WHERE shop = '{shop}'"),
            ),
            ("order_sales", ledger_sums(shop)),
        ] {
            let mut found = BTreeMap::new();
            for row in store.query(&sql).await.rows {
                let figures: Vec<Decimal> = row[2..]
                    .iter()
                    .map(|cell| cell.parse::<Decimal>().unwrap().normalize())
                    .collect();
                if figures.iter().any(|figure| !figure.is_zero()) {
                    assert_eq!(row[1], self.currency, "{} {what} {view}", self.name);
                    found.insert(row[0].clone(), figures);
                }
            }
            assert_eq!(found, self.expected, "{} {what} {view}: {NAMES:?}", self.name);
        }
    }
}

/// The same figures out of the ledger.
fn ledger_sums(shop: &str) -> String {
    let sum = |what: &str, condition: &str| format!("sum(CASE WHEN {condition} THEN {what} ELSE 0 END)");
    let sold = "line_type = 'product' AND action <> 'return'";
    let gross = sum("gross", sold);
    let discounts = sum("discount", sold);
    let reversals = sum(
        "discount - gross",
        "line_type = 'adjustment' OR (action = 'return' AND line_type = 'product')",
    );
    let shipping = sum("gross", "line_type = 'shipping'");
    let extra = sum("gross", "line_type IN ('duty', 'fee')");
    let net = format!("{gross} - {discounts} - {reversals}");
    format!(
        "SELECT local_date, currency, {gross}, {discounts}, {reversals}, {net}, {shipping}, sum(tax), {extra}, \
                {net} + {shipping} + sum(tax) + {extra} \
         FROM order_sales WHERE shop = '{shop}' GROUP BY local_date, currency"
    )
}

/// The histories of this repository, and those at hand beside it.
pub(super) fn all() -> Vec<History> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/histories");
    let other = folder().map(|folder| folder.join("histories"));
    let folders = [Some(own), other.filter(|folder| folder.is_dir())];
    let files = folders
        .iter()
        .flatten()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files.iter().map(|path| History::read(path)).collect()
}

async fn check(store: &dyn Store, histories: &[History]) {
    let warehouse = store.open();
    for history in histories {
        for shuffle in 0..SHUFFLES {
            let (one_by_one, at_once) = (
                format!("{}-{shuffle}-a", history.name),
                format!("{}-{shuffle}-b", history.name),
            );
            let mut samples = history.of_shop(&one_by_one);
            // The first is the order in which it happened.
            if shuffle > 0 {
                samples.shuffle(&mut StdRng::seed_from_u64(shuffle));
            }
            for sample in &samples {
                warehouse.load(&records(std::slice::from_ref(sample))).await.unwrap();
            }
            history
                .is_told(store, &one_by_one, &format!("shuffle {shuffle}, one by one"))
                .await;
            let mut samples = history.of_shop(&at_once);
            samples.shuffle(&mut StdRng::seed_from_u64(shuffle));
            warehouse.load(&records(&samples)).await.unwrap();
            // Everything again changes nothing.
            warehouse.load(&records(&samples)).await.unwrap();
            history
                .is_told(store, &at_once, &format!("shuffle {shuffle}, at once"))
                .await;
        }
    }
}

pub async fn histories_give_shopifys_figures(store: &dyn Store) {
    let histories = all();
    assert!(!histories.is_empty());
    check(store, &histories).await;
    assert_ne!(
        rows(store, "SELECT count(*) FROM order_sale_rows").await,
        "0",
        "some orders were edited"
    );
}
