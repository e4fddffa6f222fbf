//! orderstream: Shopify order webhooks into a durable stream, and from there into a warehouse, exactly once.
//!
//! Stream and warehouse are Redis and PostgreSQL where they are configured, files in the data folder where not.
//!
//! The way of one webhook, to be read in this order:
//! `http/webhooks.rs` (verify) → `shopify/` (body → event) → `ingest/appender.rs` (group commit) → `stream/` (durable);
//! then `worker/reader.rs` (read) → `worker/processor.rs` and `batch.rs` (decode, load, ack) → `warehouse/` (tables).
//!
//! This file is the map of the crate and holds no logic.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

pub mod app;
pub mod cli;
pub mod config;
pub mod event;
pub mod folder;
pub mod health;
pub mod http;
pub mod ingest;
pub mod live;
pub mod metrics;
pub mod nodes;
pub mod open_files;
pub mod operations;
pub mod retryability;
pub mod sample_orders;
pub mod shopify;
pub mod shutdown;
pub mod spans;
mod sqlite;
pub mod stream;
pub mod telemetry;
mod terminal;
pub mod traceparent;
pub mod warehouse;
pub mod worker;
