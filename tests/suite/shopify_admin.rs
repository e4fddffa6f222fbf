//! The Admin API of Shopify, against a fake of it.

mod bulk_repair;
mod client;
mod import;
mod queries;
mod reconcile;
mod subscribe;
mod withheld;

use crate::harness::shopify::render::PERSONAL;

/// That nothing personal is in what is kept: rows, entries, files, logs, as text.
fn holds_nothing_personal(kept: &str) {
    assert!(kept.contains("myshopify.com"), "the wrong text");
    for text in PERSONAL {
        assert!(!kept.contains(text), "{text} is kept");
    }
}
