//! A fake of Shopify's Admin API, which answers as captured ones do.
//!
//! `server.rs` is the listener and the routing by operation name, `shop.rs` the state of one shop and the faults that a
//! test tells it, `search.rs` the searches over orders. `render.rs` writes an order as GraphQL, with the ledger that
//! `books.rs` keeps; `bulk.rs` has the bulk operations, `analytics.rs` the report over these books.

mod analytics;
mod books;
pub mod bulk;
pub mod render;
mod search;
mod server;
mod shop;

pub use self::server::FakeShopify;
pub use self::shop::{FIXED_TOKEN, Fault, SHOP};
