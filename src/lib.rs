//! orderstream: Shopify order webhooks into a durable stream, and from there into a warehouse,
//! exactly once.
//!
//! Stream and warehouse are Redis and PostgreSQL where they are configured, files in the data
//! folder where not.
//!
//! The way of one webhook from the socket to Redis, in 22 files to be read in this order:
//! - connection: `http/connection.rs`, `http/timeout_io.rs` (the socket), `http/body_guard.rs`,
//!   `http/layers.rs`;
//! - verified body: `http/webhooks.rs`, `http/verified.rs`, `shopify/headers.rs`,
//!   `shopify/signature.rs`, `http/body.rs`, `ingest/admission.rs`;
//! - event and entry: `shopify/topic.rs`, `shopify/convert.rs`, `shopify/order.rs`,
//!   `stream/codec.rs`;
//! - durable: `ingest/appender.rs`, `ingest/flush.rs`, `ingest/writer.rs`,
//!   `stream/redis/writer.rs`, `stream/redis/dedupe.rs`, `stream/redis/reservation.rs`,
//!   `stream/redis/round_trip.rs`, `stream/redis/append.lua`.
//!
//! The way of an entry from the stream to the tables, in 13 files:
//! - read: `worker/reader.rs`, `stream/redis/reader.rs`, `worker/processor.rs` (order),
//!   `worker/batch.rs`;
//! - decode: `worker/consumer.rs`, `stream/codec.rs`, `event/validate.rs`;
//! - load: `worker/loader.rs`, `warehouse/postgres/mod.rs`, `warehouse/postgres/load.rs`,
//!   `warehouse/fold.rs`, `warehouse/ledger.rs`, `warehouse/rows.rs`.
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
pub mod capture;
pub mod cli;
pub mod config;
pub mod event;
pub mod folder;
pub mod health;
pub mod http;
pub mod import;
pub mod ingest;
pub mod live;
pub mod metrics;
pub mod nodes;
pub mod open_files;
pub mod operations;
mod postgres;
pub mod retryability;
pub mod sample_orders;
pub mod shopify;
pub mod shopify_admin;
pub mod shutdown;
pub mod spans;
mod sqlite;
pub mod stream;
pub mod telemetry;
mod terminal;
pub mod traceparent;
pub mod warehouse;
pub mod worker;
