//! The GraphQL documents against the part of Shopify's schema that they name.

use std::fs;
use std::path::Path;

use graphql_tools::parser::{parse_query, parse_schema};
use graphql_tools::validation::rules::default_rules_validation_plan;
use graphql_tools::validation::validate::validate;
use orderstream::shopify_admin::documents;

use crate::harness::shopify::bulk;

/// What is wrong with a document.
fn faults(document: &str) -> Vec<String> {
    let schema = parse_schema::<String>(include_str!("schema.graphql")).unwrap();
    let document = parse_query::<String>(document).unwrap().into_static();
    let found = validate(&schema, &document, &default_rules_validation_plan());
    found.into_iter().map(|fault| fault.message).collect()
}

#[test]
fn every_document_fits_the_schema() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/shopify_admin/queries");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files = Vec::from_iter(files);
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let faults = faults(&fs::read_to_string(&file).unwrap());
        assert!(faults.is_empty(), "{}: {faults:#?}", file.display());
    }
}

/// What users paste into a subscription to Shopify's Events asks for an order as `reconcile` does.
#[test]
fn the_query_for_events_asks_for_an_order_as_ours_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/event_order.graphql");
    let pasted = fs::read_to_string(path).unwrap();
    assert_eq!(faults(&pasted), <[String; 0]>::default());
    let selection = |text: &str, before: &str| {
        let fields = text.split_once(before).unwrap().1.replace(['{', '}'], " ");
        fields.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        selection(&pasted, "order(id: $id)"),
        selection(documents::ORDERS_BY_ID.text, "... on Order")
    );
}

#[test]
fn what_does_not_fit_is_noticed() {
    for (document, fault) in [
        ("{ shop { email } }", "Cannot query field \"email\" on type \"Shop\"."),
        (
            "query($ids: [String!]!) { nodes(ids: $ids) { id } }",
            "Variable \"$ids\" of type \"[String!]!\" used in position expecting type \"[ID!]!\".",
        ),
        (
            "query($id: ID!) { shop { ianaTimezone } }",
            "Variable \"$id\" is never used.",
        ),
    ] {
        assert_eq!(faults(document), [fault]);
    }
}

#[test]
fn the_bulk_query_keeps_to_shopifys_limits() {
    assert_eq!(bulk::refusals(documents::BULK_ORDERS), <[&str; 0]>::default());
    let node = |inner: &str| format!("{{ edges {{ node {{ id {inner} }} }} }}");
    let six = format!(
        "{{ orders {} }}",
        node(
            &["a", "b", "c", "d", "e"]
                .map(|name| name.to_owned() + &node("x"))
                .concat()
        )
    );
    let deep = format!(
        "{{ orders {} }}",
        node(&format!(
            "a {}",
            node(&format!("b {}", node(&format!("c {}", node("")))))
        ))
    );
    let in_list = format!(
        "{{ orders {} }}",
        node(&format!("refunds {{ refundLineItems {} }}", node("")))
    );
    for (query, words) in [
        (six, "more than 5 connections"),
        (deep, "nesting depth greater than 2"),
        (in_list, "a connection field within a list field"),
        (
            "{ orders { nodes { id } } }".to_owned(),
            "Invalid connection fields: 'orders'",
        ),
        (
            "{ orders { edges { node { name a { edges { node { id } } } } } } }".to_owned(),
            "without 'id': orders",
        ),
    ] {
        let refused = bulk::refusals(&query);
        assert!(refused.len() == 1 && refused[0].contains(words), "{refused:?}");
    }
}
