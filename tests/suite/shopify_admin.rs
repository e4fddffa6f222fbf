//! The Admin API of Shopify, against a fake of it.

mod client;
mod import;
mod queries;
mod reconcile;
mod subscribe;
