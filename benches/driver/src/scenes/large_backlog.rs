//! One worker behind a backlog of large orders: its memory is bounded in bytes, not in entries.

use std::time::Instant;

use serde_json::json;

use super::stock::drained;
use crate::lab::{Lab, seconds, trial};
use crate::postgres::Postgres;
use crate::redis::{Persistence, Redis, STREAM};
use crate::results::Trial;
use crate::sides::Services;

/// Number of orders, bytes of each.
const BACKLOGS: [(&str, u64, usize); 2] = [
    ("250 orders of 4.5 MB", 250, 4_500_000),
    ("2,000 orders of 150 KB", 2000, 150_000),
];
/// Bytes of one line of an order, nearly all of them its title.
const LINE_BYTES: usize = 4000;
/// One takes a minute or more.
const ROUNDS: usize = 1;

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let postgres = Postgres::start().await?;
    let mut trials = Vec::new();
    for _ in 0..lab.rounds(ROUNDS) {
        for (name, count, bytes) in BACKLOGS {
            let count = (count / lab.plan.shrink).max(20);
            redis.clear().await?;
            redis.rewind().await?;
            fill(&redis, count, bytes).await?;
            postgres.fresh("bench").await?;
            let services = Services {
                database_url: Some(postgres.url("bench")),
                ..Services::redis(&redis)
            };
            lab.programs.migrate(&services).await?;
            let since = Instant::now();
            let workers = lab.programs.start_workers(&services, 1)?;
            let watched = [("side", &workers), ("postgres", postgres.process())];
            let mut figures = drained(&redis, &workers, count, &watched).await?;
            figures.insert("seconds".to_owned(), seconds(since));
            workers.end().await?;
            trials.push(trial(name, figures));
        }
    }
    Ok(trials)
}

/// Appends orders of so many bytes, as a producer of its own would.
async fn fill(redis: &Redis, count: u64, bytes: usize) -> anyhow::Result<()> {
    let mut connection = redis.connect().await?;
    let title = "x".repeat(LINE_BYTES);
    let line = |number: usize| json!({"line_id": number.to_string(), "title": title, "qty": 1, "price": 1.5});
    let mut event = json!({
        "event_type": "order.created", "timestamp": "2026-01-31T16:30:02-05:00", "shop": "bench.myshopify.com",
        "total_amount": 1.5, "currency": "EUR", "items": (0..bytes / LINE_BYTES).map(line).collect::<Vec<_>>(),
    });
    for number in 0..count {
        event["event_id"] = format!("large-{bytes}-{number}").into();
        event["order_id"] = number.to_string().into();
        let mut append = redis::cmd("XADD");
        append.arg(STREAM).arg("*").arg("event_type").arg("order.created");
        append.arg("event_id").arg(event["event_id"].as_str());
        append.arg("timestamp").arg(event["timestamp"].as_str());
        append.arg("payload").arg(event.to_string());
        let () = append.query_async(&mut connection).await?;
    }
    Ok(())
}
