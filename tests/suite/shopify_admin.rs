//! The Admin API of Shopify, against a fake of it.

mod client;
mod reconcile;
mod subscribe;
