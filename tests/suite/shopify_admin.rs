//! The Admin API of Shopify, against a fake of it.

mod bulk_repair;
mod client;
mod import;
mod queries;
mod reconcile;
mod subscribe;
mod withheld;
