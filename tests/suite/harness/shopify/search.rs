//! Searches over orders: the syntax that this program uses, and no more.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::shop::{FakeOrder, Shop};

/// RFC 3339 in UTC, as GraphQL writes every time.
pub fn utc(text: &Value) -> String {
    let at = OffsetDateTime::parse(text.as_str().unwrap(), &Rfc3339).unwrap();
    at.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap()
}

/// The orders that a search sees, by `updatedAt` and id.
pub fn orders<'a>(shop: &'a Shop, query: &str) -> Vec<(String, u64, &'a FakeOrder)> {
    let seen = |order: &&FakeOrder| order.changed.elapsed() >= shop.search_lag;
    let mut found: Vec<_> = shop
        .orders
        .iter()
        .filter(|(_, order)| seen(order) && matches(query, &order.body))
        .map(|(id, order)| (utc(&order.body["updated_at"]), *id, order))
        .collect();
    found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    found
}

/// `field:>='time' AND field:<'time'` of an order.
fn matches(query: &str, order: &Value) -> bool {
    query.split(" AND ").filter(|term| !term.trim().is_empty()).all(|term| {
        let (field, _) = term
            .trim()
            .split_once(':')
            .unwrap_or_else(|| panic!("search term {term}"));
        assert!(matches!(field, "updated_at" | "created_at"), "search by {field}");
        is_at(term, order[field].as_str().unwrap())
    })
}

/// Whether a deletion at that time is found.
pub fn finds_deletion(query: &str, at: &str) -> bool {
    assert!(
        query.starts_with("action:destroy AND subject_type:ORDER AND "),
        "{query}"
    );
    query.split(" AND ").skip(2).all(|term| is_at(term, at))
}

/// Whether a time fits a term about it.
fn is_at(term: &str, own: &str) -> bool {
    let (_, rest) = term.trim().split_once(':').unwrap();
    let value = rest.trim_start_matches(['<', '>', '=']);
    let operator = &rest[..rest.len() - value.len()];
    let at = |text: &str| OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|_| panic!("time {text}"));
    let (wanted, own) = (at(value.trim_matches('\'')), at(own));
    match operator {
        ">=" => own >= wanted,
        "<" => own < wanted,
        "<=" => own <= wanted,
        ">" => own > wanted,
        other => panic!("operator {other} in {term}"),
    }
}
