//! The GraphQL documents against the part of Shopify's schema that they name.

use std::fs;
use std::path::Path;

use graphql_tools::parser::{parse_query, parse_schema};
use graphql_tools::validation::rules::default_rules_validation_plan;
use graphql_tools::validation::validate::validate;

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
