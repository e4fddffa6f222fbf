//! ShopifyQL: the report over `sales` that this program asks for, of the books of the shop's orders.

use std::collections::BTreeMap;

use orderstream::shopify::ShopZone;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::render::{instant, list, order};
use super::shop::Shop;

/// Answers `FROM sales SHOW ... GROUP BY day|order_id SINCE ... UNTIL ... LIMIT ... OFFSET ...`.
pub fn report(shop: &Shop, query: &str) -> Value {
    let words = Vec::from_iter(query.split([' ', ',']).filter(|word| !word.is_empty()));
    let after = |keyword: &str| {
        let place = words.iter().position(|word| *word == keyword);
        words[place.unwrap_or_else(|| panic!("no {keyword} in {query}")) + 1]
    };
    let place = |keyword: &str| words.iter().position(|word| *word == keyword).unwrap();
    let metrics = &words[place("SHOW") + 1..place("GROUP")];
    let (by, since, until) = (after("BY"), after("SINCE"), after("UNTIL"));
    let mut groups = BTreeMap::<String, BTreeMap<&str, Decimal>>::new();
    for (id, fake) in &shop.orders {
        for (day, sale) in sales(shop, &fake.body()) {
            if since <= &*day && &*day <= until {
                let key = if by == "day" { day } else { id.to_string() };
                add(groups.entry(key).or_default(), &sale);
            }
        }
    }
    let rows = groups.into_iter().map(|(key, amounts)| {
        let cell = |metric: &&str| ((*metric).to_owned(), Value::from(amounts[*metric].to_string()));
        Value::Object(
            [(by.to_owned(), key.into())]
                .into_iter()
                .chain(metrics.iter().map(cell))
                .collect(),
        )
    });
    let [limit, offset] = [after("LIMIT"), after("OFFSET")].map(|count| count.parse().unwrap());
    let columns = [by]
        .iter()
        .chain(metrics)
        .map(|name| json!({"name": name, "dataType": "STRING"}))
        .collect::<Vec<_>>();
    let rows = Vec::from_iter(rows.skip(offset).take(limit));
    json!({"shopifyqlQuery": {"parseErrors": [], "tableData": {"columns": columns, "rows": rows}}})
}

/// Day and sale of each agreement.
fn sales(shop: &Shop, body: &Value) -> Vec<(String, Value)> {
    let zone = ShopZone::named(shop.timezone).unwrap();
    let node = order(body);
    let agreements = list(&node["agreements"]["edges"]).map(|edge| &edge["node"]);
    let dated = agreements.flat_map(|agreement| {
        let day = zone.day(instant(&agreement["happenedAt"])).unwrap().to_string();
        list(&agreement["sales"]["edges"]).map(move |edge| (day.clone(), edge["node"].clone()))
    });
    dated.collect()
}

/// As reports do: what lowers sales is negative; tips and gift cards are no sales.
fn add(row: &mut BTreeMap<&'static str, Decimal>, sale: &Value) {
    let amount = |name: &str| {
        sale[name]["shopMoney"]["amount"]
            .as_str()
            .unwrap()
            .parse::<Decimal>()
            .unwrap()
    };
    let (tax, discount) = (amount("totalTaxAmount"), amount("totalDiscountAmountBeforeTaxes"));
    let net = amount("totalAmount") - tax;
    let [mut gross, mut lowered, mut reversed, mut shipping, mut duties, mut fees] = [Decimal::ZERO; 6];
    match (sale["lineType"].as_str().unwrap(), sale["actionType"].as_str().unwrap()) {
        ("PRODUCT", "RETURN") | ("ADJUSTMENT", _) => reversed = net,
        ("PRODUCT", _) => (gross, lowered) = (net + discount, -discount),
        ("SHIPPING", _) => shipping = net,
        ("DUTY", _) => duties = net,
        ("ADDITIONAL_FEE", _) => fees = net,
        ("TIP" | "GIFT_CARD", _) => {}
        (other, _) => panic!("line type {other}"),
    }
    let net = gross + lowered + reversed;
    for (metric, amount) in [
        ("gross_sales", gross),
        ("discounts", lowered),
        ("sales_reversals", reversed),
        ("net_sales", net),
        ("shipping_charges", shipping),
        ("taxes", tax),
        ("duties", duties),
        ("additional_fees", fees),
        ("total_sales", net + shipping + tax + duties + fees),
    ] {
        *row.entry(metric).or_default() += amount;
    }
}
