//! What the tests stand on: real servers, the real binary, and waiting with a deadline.

pub mod cluster;
#[cfg(feature = "otel")]
pub mod collector;
pub mod embedded;
pub mod folder;
pub mod ground;
pub mod ingest;
pub mod local;
pub mod node;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod postgres_tls;
pub mod python;
pub mod redis;
pub mod relays;
pub mod sentinels;
pub mod service;
pub mod shopify;
pub mod site;
pub mod slow_link;
pub mod tmpfs;
pub mod wire;

use std::time::{Duration, Instant};

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::chaos::given;

/// Generates from a seed, which is said: by default the same for each run, so that a failure is not one of chance.
pub fn seeded(config: Config) -> TestRunner {
    let seed = given("ORDERSTREAM_CHAOS_SEED", 1);
    eprintln!("generated with ORDERSTREAM_CHAOS_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Polls until `probe` answers, at most `limit`; panics with `what` otherwise. The only way a test waits.
pub async fn eventually<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
