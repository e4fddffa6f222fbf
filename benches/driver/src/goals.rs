//! What has to hold, mostly as ratios of medians out of one interleaved run; one is of two scenes, which may be of two.

use crate::results::Results;

/// Whether more or less of it is wanted.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// One promise about speed or cost.
pub struct Goal {
    pub says: &'static str,
    bound: Bound,
    measured: fn(&Results) -> Option<f64>,
}

/// A goal beside what was measured.
pub struct Judged {
    pub wanted: String,
    pub measured: Option<f64>,
    pub met: Option<bool>,
}

const OURS: &str = "orderstream";
const DEDUPE_OFF: &str = "orderstream, dedupe off";
const NAIVE: &str = "naive Rust";
const NAIVE_WHOLE: &str = "naive Rust, the same entry";
const CAPTURED_SMALL: &str = "orderstream capture, small transactions";
const CAPTURED_ONE: &str = "orderstream capture, one transaction";
const CAPTURED_RATE: &str = "orderstream capture, 200 orders/s";
const FLOOR: &str = "floor: read and answer";

fn ratio(results: &Results, figure: &str, this: (&str, &str), that: (&str, &str)) -> Option<f64> {
    Some(results.median(this.0, this.1, figure)? / results.median(that.0, that.1, figure)?)
}

/// Of one side to another at 64 connections.
fn single(results: &Results, figure: &str, this: &str, that: &str) -> Option<f64> {
    ratio(results, figure, ("single-64", this), ("single-64", that))
}

fn work(results: &Results, than: &str) -> Option<f64> {
    ratio(
        results,
        "rate",
        ("workers", "orderstream work, 1 of them"),
        ("workers", than),
    )
}

fn grown(results: &Results, to: &str) -> Option<f64> {
    ratio(results, "rate", ("growth", to), ("growth", "stream of 10,000"))
}

/// Of a cluster to one of a single primary.
fn scaled(results: &Results, figure: &str, primaries: &str) -> Option<f64> {
    ratio(
        results,
        figure,
        ("cluster", primaries),
        ("cluster", "orderstream, 1 primary"),
    )
}

pub const GOALS: [Goal; 31] = [
    at_least("× the naive Rust way, 64 connections", 2.2, |r| {
        single(r, "rate", OURS, NAIVE)
    }),
    at_least("× the naive Rust way with the same entry, 64 connections", 1.7, |r| {
        single(r, "rate", OURS, NAIVE_WHOLE)
    }),
    at_least("× Fastify, 64 connections", 3.5, |r| {
        single(r, "rate", OURS, "Fastify + ioredis")
    }),
    at_least("× FastAPI, 64 connections", 10.0, |r| {
        single(r, "rate", OURS, "FastAPI + redis-py")
    }),
    at_least("of the floor, 64 connections", 0.45, |r| single(r, "rate", OURS, FLOOR)),
    at_least("× the naive Rust way, dedupe off", 2.5, |r| {
        single(r, "rate", DEDUPE_OFF, NAIVE)
    }),
    at_least("of the floor, dedupe off", 0.5, |r| {
        single(r, "rate", DEDUPE_OFF, FLOOR)
    }),
    at_most("of the naive way's p99 at 8,000/s", 0.5, |r| {
        ratio(r, "p99", ("rate-8000", OURS), ("rate-8000", NAIVE))
    }),
    at_least("of a bare client's rate, batches of 64", 0.75, |r| {
        ratio(r, "rate", ("batches", "batches of 64"), ("batches", "bare client"))
    }),
    at_most("of the naive way's Redis CPU an event", 0.25, |r| {
        single(r, "cpu_redis", OURS, NAIVE)
    }),
    at_least("of a bare driver's rate, one worker", 0.8, |r| work(r, "bare driver")),
    at_least("× one INSERT and one XACK an event", 15.0, |r| {
        work(r, "one INSERT, one XACK")
    }),
    at_least("of the speed on a short stream, with a million entries", 0.8, |r| {
        grown(r, "stream of 1,000,000")
    }),
    at_least("of the speed on empty tables, with five million rows", 0.8, |r| {
        grown(r, "tables of 5,000,000 rows")
    }),
    at_most("MB peak at 64 connections", 40.0, |r| {
        r.median("single-64", OURS, "rss")
    }),
    at_most("MB peak with 5,000 idle connections", 100.0, |r| {
        r.median("idle-5000", OURS, "rss")
    }),
    at_most("× the memory after 500,000 webhooks, after five million", 1.1, |r| {
        Some(r.median("soak", OURS, "rss_end")? / r.median("soak", OURS, "rss_early")?)
    }),
    at_most(
        "× the p99 of serve, with workers in the process, at 5,000/s",
        2.0,
        |r| ratio(r, "p99", ("run-5000", "orderstream run"), ("run-5000", OURS)),
    ),
    at_least("captured orders/s, backlog of small transactions", 10_000.0, |r| {
        r.median("capture", CAPTURED_SMALL, "rate")
    }),
    at_least("captured orders/s, one transaction", 15_000.0, |r| {
        r.median("capture", CAPTURED_ONE, "rate")
    }),
    at_most("CPU s of capture for 10,000 orders of a backlog", 0.25, |r| {
        r.median("capture", CAPTURED_SMALL, "cpu_side")
    }),
    at_most("ms from commit to stream at 200/s, p50", 5.0, |r| {
        r.median("capture", CAPTURED_RATE, "p50")
    }),
    at_most("ms from commit to stream at 200/s, p99", 50.0, |r| {
        r.median("capture", CAPTURED_RATE, "p99")
    }),
    at_most("MB peak of capture in one large transaction", 64.0, |r| {
        r.median("capture", CAPTURED_ONE, "rss")
    }),
    at_least("× the rate of one primary, two primaries", 1.7, |r| {
        scaled(r, "rate", "orderstream, 2 primaries")
    }),
    at_least("× the rate of one primary, three primaries", 2.55, |r| {
        scaled(r, "rate", "orderstream, 3 primaries")
    }),
    at_least("× the rate of one primary, four primaries", 3.4, |r| {
        scaled(r, "rate", "orderstream, 4 primaries")
    }),
    at_least("× the rate of one primary, six primaries", 5.1, |r| {
        scaled(r, "rate", "orderstream, 6 primaries")
    }),
    at_most("× Redis' CPU an event, six primaries beside one", 1.15, |r| {
        scaled(r, "cpu_redis", "orderstream, 6 primaries")
    }),
    at_most("× the service's CPU an event, six primaries beside one", 1.1, |r| {
        scaled(r, "cpu_side", "orderstream, 6 primaries")
    }),
    at_least("of the direct path's rate, draining the spool", 0.5, |r| {
        Some(r.median("spool", "drained into Redis", "drain")? / r.median("single-64", OURS, "rate")?)
    }),
];

const fn at_least(says: &'static str, bound: f64, measured: fn(&Results) -> Option<f64>) -> Goal {
    Goal {
        says,
        bound: Bound::AtLeast(bound),
        measured,
    }
}

const fn at_most(says: &'static str, bound: f64, measured: fn(&Results) -> Option<f64>) -> Goal {
    Goal {
        says,
        bound: Bound::AtMost(bound),
        measured,
    }
}

impl Goal {
    pub fn judge(&self, results: &Results) -> Judged {
        let measured = (self.measured)(results);
        let (wanted, met) = match self.bound {
            Bound::AtLeast(bound) => (format!("≥ {bound}"), measured.map(|value| value >= bound)),
            Bound::AtMost(bound) => (format!("≤ {bound}"), measured.map(|value| value <= bound)),
        };
        Judged { wanted, measured, met }
    }
}
