//! Webhooks into Redis: the same load on every side, one side at a time, in turns.

use std::sync::Arc;

use crate::lab::{Lab, trial};
use crate::load::{Load, Pace, Payload};
use crate::orders::{MANY_LINES, Orders, USUAL_LINES};
use crate::postgres::Postgres;
use crate::redis::{Persistence, Redis};
use crate::results::{Figures, Trial};
use crate::sides::{Services, Side};

/// One load and those who take it.
pub struct Ingest {
    pub name: &'static str,
    sides: &'static [Side],
    pace: Pace,
    idle: usize,
    lines: usize,
    persistence: Persistence,
}

const ALL: &[Side] = &[
    Side::Orderstream,
    Side::DedupeOff,
    Side::Naive,
    Side::Fastify,
    Side::Fastapi,
    Side::Floor,
];

const fn closed(name: &'static str, sides: &'static [Side], connections: usize) -> Ingest {
    Ingest {
        name,
        sides,
        pace: Pace::Closed { connections },
        idle: 0,
        lines: USUAL_LINES,
        persistence: Persistence::Off,
    }
}

const fn open(name: &'static str, sides: &'static [Side], rate: u32) -> Ingest {
    let pace = Pace::Open { rate, connections: 64 };
    Ingest {
        pace,
        ..closed(name, sides, 0)
    }
}

pub const SCENES: &[Ingest] = &[
    closed("single-1", ALL, 1),
    closed(
        "single-64",
        &[
            Side::Orderstream,
            Side::DedupeOff,
            Side::Naive,
            Side::NaiveWhole,
            Side::Fastify,
            Side::Fastapi,
            Side::Floor,
            Side::FloorVerified,
        ],
        64,
    ),
    closed("single-512", ALL, 512),
    Ingest {
        idle: 5000,
        ..closed("idle-5000", &[Side::Orderstream, Side::Naive, Side::Floor], 64)
    },
    open("rate-8000", &[Side::Orderstream, Side::Naive, Side::Fastify], 8000),
    Ingest {
        lines: MANY_LINES,
        ..closed("large-bodies", ALL, 64)
    },
    Ingest {
        persistence: Persistence::Everysec,
        ..closed("aof-everysec", &[Side::Orderstream, Side::DedupeOff, Side::Naive], 64)
    },
    Ingest {
        persistence: Persistence::Always,
        ..closed("aof-always", &[Side::Orderstream, Side::DedupeOff, Side::Naive], 64)
    },
    closed("keep-raw", &[Side::Orderstream, Side::RawRedacted, Side::RawFull], 64),
    open("run-5000", &[Side::Orderstream, Side::Run], 5000),
];

pub async fn run(scene: &Ingest, lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let orders = Arc::new(Orders::new(scene.lines));
    let redis = Redis::start(lab.scratch("redis"), scene.persistence).await?;
    let postgres = match scene.sides.contains(&Side::Run) {
        true => Some(Postgres::start().await?),
        false => None,
    };
    let mut trials = Vec::new();
    for _ in 0..lab.plan.rounds {
        for &side in scene.sides {
            let figures = one(scene, lab, side, &[], &redis, postgres.as_ref(), &orders).await?;
            trials.push(trial(side.name(), figures));
        }
    }
    Ok(trials)
}

/// Settings whose defaults were chosen by what this shows.
const CHOICES: [(&str, &str); 8] = [
    ("ORDERSTREAM_WRITERS", "1"),
    ("ORDERSTREAM_WRITERS", "2"),
    ("ORDERSTREAM_WRITERS", "4"),
    ("ORDERSTREAM_WRITERS", "8"),
    ("ORDERSTREAM_FLUSH_ENTRIES", "32"),
    ("ORDERSTREAM_FLUSH_ENTRIES", "64"),
    ("ORDERSTREAM_FLUSH_ENTRIES", "256"),
    ("ORDERSTREAM_FLUSH_ENTRIES", "1000"),
];

/// The same load with other settings.
pub async fn tuning(lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    let redis = Redis::start(lab.scratch("redis"), Persistence::Off).await?;
    let orders = Arc::new(Orders::new(USUAL_LINES));
    let mut trials = Vec::new();
    for _ in 0..lab.plan.rounds {
        for connections in [64, 512] {
            let scene = closed("tuning", &[], connections);
            for choice in CHOICES {
                let figures = one(&scene, lab, Side::Orderstream, &[choice], &redis, None, &orders).await?;
                let (name, value) = choice;
                trials.push(trial(format!("{connections} connections, {name}={value}"), figures));
            }
        }
    }
    Ok(trials)
}

async fn one(
    scene: &Ingest,
    lab: &Lab,
    side: Side,
    settings: &[(&'static str, &str)],
    redis: &Redis,
    postgres: Option<&Postgres>,
    orders: &Arc<Orders>,
) -> anyhow::Result<Figures> {
    redis.clear().await?;
    let mut services = Services::redis(redis);
    services.settings = settings
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    if let Some(postgres) = postgres {
        postgres.fresh("bench").await?;
        services.database_url = Some(postgres.url("bench"));
        lab.programs.migrate(&services).await?;
    }
    let started = lab.programs.start(side, &services).await?;
    let load = Load {
        addr: started.addr,
        pace: scene.pace,
        idle: scene.idle,
        payload: Payload::Webhooks(Arc::clone(orders)),
        warm_up: lab.plan.warm_up,
        measured: lab.plan.measured,
        at_most: u64::MAX,
        first: 0,
    };
    let mut watched = vec![("side", &started.process), ("redis", redis.process()?)];
    watched.extend(postgres.map(|postgres| ("postgres", postgres.process())));
    let mut figures = lab.measure(load, &watched).await?;
    figures.insert("rss".to_owned(), started.process.peak_megabytes()?);
    started.process.end().await?;
    Ok(figures)
}
