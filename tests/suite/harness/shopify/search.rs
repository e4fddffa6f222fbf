//! Searches over orders: the syntax that this program uses, and no more.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::shop::{FakeOrder, Shop};

/// The orders that a search sees, by `updatedAt` and id.
pub fn orders<'a>(shop: &'a Shop, query: &str) -> Vec<(u64, &'a FakeOrder)> {
    let seen = |order: &&FakeOrder| order.changed.elapsed() >= shop.search_lag;
    let mut found: Vec<_> = shop
        .orders
        .iter()
        .filter(|(_, order)| seen(order) && matches(query, order))
        .map(|(id, order)| (*id, order))
        .collect();
    found.sort_by_key(|(id, order)| (order.updated_at, *id));
    found
}

/// `field:>='time' AND field:<'time'` of an order.
fn matches(query: &str, order: &FakeOrder) -> bool {
    let mut terms = query.split(" AND ").filter(|term| !term.trim().is_empty());
    terms.all(|term| match term.trim().split_once(':') {
        Some(("updated_at", _)) => is_at(term, order.updated_at),
        Some(("created_at", _)) => is_at(term, order.created_at),
        _ => panic!("search term {term}"),
    })
}

/// Whether a deletion at that time is found.
pub fn finds_deletion(query: &str, at: &str) -> bool {
    assert!(
        query.starts_with("action:destroy AND subject_type:ORDER AND "),
        "{query}"
    );
    let at = OffsetDateTime::parse(at, &Rfc3339).unwrap();
    query.split(" AND ").skip(2).all(|term| is_at(term, at))
}

/// Whether a time fits a term about it.
fn is_at(term: &str, own: OffsetDateTime) -> bool {
    let (_, rest) = term.trim().split_once(':').unwrap();
    let value = rest.trim_start_matches(['<', '>', '=']);
    let operator = &rest[..rest.len() - value.len()];
    let value = value.trim_matches('\'');
    let wanted = OffsetDateTime::parse(value, &Rfc3339).unwrap_or_else(|_| panic!("time {value}"));
    match operator {
        ">=" => own >= wanted,
        "<" => own < wanted,
        "<=" => own <= wanted,
        ">" => own > wanted,
        other => panic!("operator {other} in {term}"),
    }
}
