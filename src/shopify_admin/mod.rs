//! Client of Shopify's Admin API (GraphQL), one for each shop.
//!
//! # Layout
//!
//! [`AdminClient`] (`client.rs`) asks one of the [`documents`], within a share of the shop's rate
//! limit (`budget.rs`), with an access token that it renews (`token.rs`). `reply.rs` tells what an
//! answer means, `identity.rs` whether token, scopes and version are the right ones, `error.rs`
//! what an operator has to do. [`bulk`] runs bulk operations over spans of time (`span.rs`), and
//! [`BulkFetch`] (`bulk_fetch.rs`) brings their files. `subscriptions.rs` compares the shop's webhook subscriptions with
//! those that are wanted; [`reconcile`] the shop's orders with the warehouse's.
//!
//! # Invariants
//!
//! - No document names a personal field; tokens and answers never reach a log or an error.
//! - A client exists only for the shop that is configured, with every scope it needs and a version
//!   that Shopify supports.
//! - At most the configured share of the bucket of points is used, and of the rate it refills at.
//! - A query is tried again until a bound; a mutation only where Shopify cannot have carried it out.
//!
//! REST is absent: new public apps may not use it.

mod budget;
pub mod bulk;
mod bulk_fetch;
mod client;
pub mod documents;
mod error;
mod identity;
pub mod reconcile;
mod reply;
mod span;
pub mod subscriptions;
mod token;

pub use self::bulk_fetch::{BulkError, BulkFetch, BulkStep};
pub use self::client::AdminClient;
pub use self::error::AdminError;
pub use self::identity::ShopIdentity;
pub use self::span::OrderSpan;
