//! A backlog of large orders: a worker's memory is bounded in bytes, whatever the number of entries.

use serde_json::{Value, json};

use super::*;
use crate::harness::local::Local;

/// Of the whole process, debug build or not.
const MOST_RESIDENT: usize = 256 << 20;
/// As many as a page of small entries has.
const SMALL: u64 = 500;
const LARGE: u64 = 40;
/// As an order of 5 MiB becomes.
const LARGE_BYTES: usize = 4_500_000;

/// Reads so many entries as a consumer that has been idle for an hour.
const READ_AND_GO: &str = "
redis.call('XGROUP', 'CREATE', KEYS[1], 'pipeline_workers', '0')
local read = redis.call('XREADGROUP', 'GROUP', 'pipeline_workers', 'gone', 'COUNT', ARGV[1], 'STREAMS', KEYS[1], '>')
for _, entry in ipairs(read[1][2]) do
  redis.call('XCLAIM', KEYS[1], 'pipeline_workers', 'gone', 0, entry[1], 'IDLE', 3600000, 'JUSTID')
end";

/// An event of at least so many bytes, most of them in its lines.
fn wide_event(id: u64, bytes: usize) -> Value {
    let title = "x".repeat(4000);
    let line = |number: usize| json!({"line_id": number.to_string(), "title": title, "qty": 1, "price": 1.5});
    let mut event = event(id);
    event["items"] = (0..bytes / 4050).map(line).collect();
    event
}

fn peak_bytes(service: &Service) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

fn patient(settings: &Settings) -> Settings {
    // A debug build on a busy machine takes seconds for one of them.
    settings
        .with("ORDERSTREAM_CLAIM_IDLE", "60s")
        .with("ORDERSTREAM_STATEMENT_TIMEOUT", "30s")
        .with("RUST_LOG", "info")
}

#[tokio::test(flavor = "multi_thread")]
async fn large_orders_behind_small_ones_are_loaded_within_the_memory_of_a_worker() {
    let site = Site::new().await;
    for id in 0..SMALL {
        site.produce(&event(id)).await;
    }
    for id in SMALL..SMALL + LARGE {
        let event = wide_event(id, LARGE_BYTES);
        site.produce(&event).await;
    }
    // Half of them are pending with a consumer that is gone: they are claimed, the others read.
    let read = (SMALL + LARGE / 2).to_string();
    site.redis
        .command::<()>(&["EVAL", READ_AND_GO, "1", "orders_stream", &read])
        .await;
    let worker = Service::start("work", &patient(&site.settings())).await;
    site.has_rows(usize::try_from(SMALL + LARGE).unwrap()).await;
    site.is_settled().await;
    let peak = peak_bytes(&worker);
    assert!(peak <= MOST_RESIDENT, "{} MiB", peak >> 20);
    assert_eq!(site.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_orders_on_files_are_taken_and_loaded_within_the_memory_of_one_process() {
    let local = Local::new();
    let service = Service::start("run", &patient(&local.settings())).await;
    for id in 0..LARGE {
        let answer = service.send_batch(&json!([wide_event(id, LARGE_BYTES)])).await;
        assert_eq!(answer.unwrap().status(), 200);
    }
    service.settled(LARGE).await;
    local.has_rows(usize::try_from(LARGE).unwrap()).await;
    let peak = peak_bytes(&service);
    assert!(peak <= MOST_RESIDENT, "{} MiB", peak >> 20);
}
