//! Black-box tests over real servers: a redis-server and a PostgreSQL that the harness starts on free sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, at whatever it did not expect"
)]
#![allow(missing_docs, unreachable_pub, reason = "nobody reads a test binary's API")]

mod admin_order;
mod bodies;
mod captured;
mod chaos;
mod cli;
mod config;
mod conversion;
mod database_capture;
mod delivered;
mod deploy;
mod examples;
mod failovers;
mod floods;
mod harness;
mod health;
mod http;
mod imports;
mod ingest;
mod intake;
mod killed;
mod live;
mod local;
mod money;
mod nodes;
mod openapi;
mod operations;
#[cfg(feature = "otel")]
mod otel;
mod packaging;
mod page;
mod pipeline;
mod secrets;
mod shopify_admin;
mod shutdown;
mod spool;
mod stream;
mod telemetry;
mod terminal;
mod traceparent;
mod warehouse;
mod worker;
