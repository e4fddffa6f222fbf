//! Arguments of `send`, and their defaults.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::mix::{Percentage, Shares};
use super::schedule::RateShape;
use crate::cli::Failure;
use crate::cli::output::OutputArgs;
use crate::config::{self, Secret};

/// Deliveries a second that make sense: a quarter of an hour between two, or more than one machine
/// sends.
const RATES: RangeInclusive<f64> = 0.001..=1_000_000.0;
/// The topic that stands for whole histories of orders.
pub(super) const MIXED: &str = "mixed";
const STORM: Shares = Shares {
    late: Percentage::percent(10),
    duplicates: Percentage::percent(5),
    old_secrets: Percentage::percent(10),
    bad_signatures: Percentage::percent(2),
    malformed: Percentage::percent(2),
};

/// Arguments of `send`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream send                                 one order to the configured instance
  orderstream send --count 10000 --rate 200        latency counts from the scheduled moment
  orderstream send --file order.json --topic orders/paid
  orderstream send --seed 7 --count 5              the same deliveries each time
  orderstream send --storm --verify                a storm, and whether it landed
  orderstream send --topic mixed --duplicates 20% --count 5000 --verify=2m")]
pub(in crate::cli) struct SendArgs {
    /// Where to: the base URL of the instance [default: where the owner of the data folder listens,
    /// else the configured address]
    #[arg(long)]
    pub(super) url: Option<String>,
    /// Secret to sign with; a second one is the old one [default: the configured ones, else local
    /// mode's]
    #[arg(long)]
    pub(super) secret: Vec<Secret>,
    /// Deliveries [default: 1, or one for each file; 1000 of a storm]
    #[arg(long, short = 'n')]
    count: Option<u64>,
    /// Deliveries a second, whatever the answers take; 0: as fast as answers come [default: 0; 100
    /// of a storm]
    #[arg(long)]
    rate: Option<f64>,
    /// How the rate comes about [default: steady; bursts of a storm]
    #[arg(long, value_enum, hide_default_value = true)]
    shape: Option<RateShape>,
    /// Deliveries under way at once [default: 8; 32 of a storm]
    #[arg(long, short = 'c', value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: Option<u16>,
    /// Webhook topic; `mixed`: whole histories of orders, from creation on [default: orders/create;
    /// mixed of a storm]
    #[arg(long)]
    topic: Option<String>,
    /// Shop that they come from
    #[arg(long, default_value = "example.myshopify.com")]
    pub(super) shop: String,
    /// Bodies to send instead of generated orders, byte for byte
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) file: Vec<PathBuf>,
    /// Makes bodies, webhook ids and what is mixed in repeatable; orders are of December 2025 then,
    /// else of today
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Give up on an answer after this many seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) timeout: u64,
    /// Wait until everything accepted has landed, and check the rows of its orders; give up where
    /// nothing more landed for so long [default: 1m]
    #[arg(long, value_name = "PATIENCE", num_args = 0..=1, require_equals = true, default_missing_value = "1m",
          value_parser = patience)]
    pub(super) verify: Option<Duration>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    /// Mixed topics in bursts; the shares below are 5, 10, 10, 2 and 2% then
    #[arg(long, help_heading = "Storm")]
    storm: bool,
    /// Share that repeats another delivery
    #[arg(long, value_name = "SHARE", help_heading = "Storm")]
    duplicates: Option<Percentage>,
    /// Share that comes late, after what happened afterwards
    #[arg(long, value_name = "SHARE", help_heading = "Storm")]
    late: Option<Percentage>,
    /// Share signed with the secret before the newest, as after a rotation
    #[arg(long, value_name = "SHARE", help_heading = "Storm")]
    old_secrets: Option<Percentage>,
    /// Share with a wrong, cut or absent signature; answered 401
    #[arg(long, value_name = "SHARE", help_heading = "Storm")]
    bad_signatures: Option<Percentage>,
    /// Share that is signed and no event; answered 200 quarantined
    #[arg(long, value_name = "SHARE", help_heading = "Storm")]
    malformed: Option<Percentage>,
}

impl SendArgs {
    /// What the types do not say.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let rate = self.rate();
        if rate != 0.0 && !RATES.contains(&rate) {
            let (low, high) = (RATES.start(), RATES.end());
            return wrong(&format!("--rate must be 0, or from {low} to {high}"));
        }
        if rate == 0.0 && self.shape.is_some_and(|shape| shape != RateShape::Steady) {
            return wrong("--shape needs a --rate");
        }
        if !self.file.is_empty() && self.topic.as_deref() == Some(MIXED) {
            return wrong("files have one topic: give --topic, orders/create for one");
        }
        Ok(())
    }

    /// What is given, else the default of a storm or of any other run.
    fn or_default<T>(&self, given: Option<T>, usual: T, of_storm: T) -> T {
        given.unwrap_or(if self.storm { of_storm } else { usual })
    }

    pub(super) fn count(&self) -> u64 {
        let files = u64::try_from(self.file.len()).unwrap_or(u64::MAX);
        self.or_default(self.count, files.max(1), 1000)
    }

    pub(super) fn rate(&self) -> f64 {
        self.or_default(self.rate, 0.0, 100.0)
    }

    pub(super) fn concurrency(&self) -> u16 {
        self.or_default(self.concurrency, 8, 32)
    }

    pub(super) fn shape(&self) -> RateShape {
        self.or_default(self.shape, RateShape::Steady, RateShape::Bursts)
    }

    pub(super) fn topic(&self) -> &str {
        let of_storm = if self.file.is_empty() { MIXED } else { "orders/create" };
        self.or_default(self.topic.as_deref(), "orders/create", of_storm)
    }

    /// # Errors
    /// They do not fit beside each other, or there is no old secret to sign with.
    pub(super) fn shares(&self, has_old_secret: bool) -> Result<Shares, Failure> {
        let share = |given, of_storm| self.or_default(given, Percentage::default(), of_storm);
        let shares = Shares {
            late: share(self.late, STORM.late),
            duplicates: share(self.duplicates, STORM.duplicates),
            // A storm does not require two secrets.
            old_secrets: share(
                self.old_secrets,
                if has_old_secret {
                    STORM.old_secrets
                } else {
                    Percentage::default()
                },
            ),
            bad_signatures: share(self.bad_signatures, STORM.bad_signatures),
            malformed: share(self.malformed, STORM.malformed),
        };
        if !shares.fit() {
            return wrong("the shares are more than 100% together");
        }
        if shares.old_secrets != Percentage::default() && !has_old_secret {
            return wrong("--old-secrets needs a second secret: give --secret twice, the newest first");
        }
        Ok(shares)
    }
}

fn wrong<T>(text: &str) -> Result<T, Failure> {
    Err(Failure::Usage(format!("error: {text}\n")))
}

fn patience(text: &str) -> Result<Duration, &'static str> {
    config::duration(text).ok_or("a duration is written 500ms, 2s, 5m, 6h")
}
