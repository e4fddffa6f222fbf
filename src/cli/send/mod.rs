//! `send`: signed test webhooks to a running instance, generated or from files.
//!
//! Reads top to bottom: what to send (`deliveries`), how fast (`pace`), what came of it (`summary`).

mod deliveries;
mod generate;
mod pace;
mod summary;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use self::deliveries::Deliveries;
use super::Failure;
use super::instance::Instance;
use crate::config::{Config, Secret, local};

/// Deliveries a second that make sense: a quarter of an hour between two, or more than one machine sends.
const RATES: RangeInclusive<f64> = 0.001..=1_000_000.0;

/// Arguments of `send`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream send                                 one order to the instance of this configuration
  orderstream send --count 10000 --rate 200        200 a second; latency counts from the scheduled moment
  orderstream send --file order.json --topic orders/paid
  orderstream send --seed 7 --count 5              the same deliveries each time: the second time, duplicates")]
pub(super) struct SendArgs {
    /// Where to: the base URL of the instance [default: where the owner of the data folder listens, else the configured address]
    #[arg(long)]
    url: Option<String>,
    /// Secret to sign with [default: the configured one, else local mode's]
    #[arg(long)]
    secret: Option<Secret>,
    /// Deliveries [default: 1, or one for each file]
    #[arg(long, short = 'n')]
    count: Option<u64>,
    /// Deliveries a second, whatever the answers take; 0: as fast as answers come
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Deliveries under way at once
    #[arg(long, short = 'c', default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
    /// Webhook topic
    #[arg(long, default_value = "orders/create")]
    topic: String,
    /// Shop they claim to come from
    #[arg(long, default_value = "example.myshopify.com")]
    shop: String,
    /// Bodies to send instead of generated orders, byte for byte, in turn
    #[arg(long, value_name = "FILE", num_args = 1..)]
    file: Vec<PathBuf>,
    /// Makes bodies and webhook ids repeatable
    #[arg(long)]
    seed: Option<u64>,
    /// Give up on an answer after this many seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// Sends, prints the summary, and succeeds where every answer was 2xx.
///
/// # Errors
/// Wrong arguments, no secret, or an answer that was not 2xx.
pub(super) async fn run(args: SendArgs, config: Config) -> Result<(), Failure> {
    if args.rate != 0.0 && !RATES.contains(&args.rate) {
        let (low, high) = (RATES.start(), RATES.end());
        return Err(Failure::Usage(format!(
            "error: --rate must be 0, or from {low} to {high}\n"
        )));
    }
    let base = match &args.url {
        Some(url) => url.clone(),
        None => format!("http://{}", Instance::of(&config).await.public),
    };
    let url = format!("{}/webhooks/orders", base.trim_end_matches('/'));
    let url = url::Url::parse(&url).map_err(|error| Failure::Usage(format!("error: --url {base}: {error}\n")))?;
    let secret = secret(&args, &config)?;
    let count = args
        .count
        .unwrap_or_else(|| u64::try_from(args.file.len()).unwrap_or(u64::MAX).max(1));
    let deliveries = Deliveries::new(&args.file, args.seed, secret, args.topic, args.shop)?;
    let plan = pace::Plan {
        url,
        count,
        rate: args.rate,
        concurrency: args.concurrency,
        timeout: Duration::from_secs(args.timeout),
    };
    let stop = CancellationToken::new();
    let sending = pace::send(plan, deliveries, stop.clone());
    tokio::pin!(sending);
    let tally = tokio::select! {
        tally = &mut sending => tally,
        // What is under way is awaited, then the summary of what was sent is printed.
        _ = tokio::signal::ctrl_c() => {
            stop.cancel();
            sending.await
        }
    }?;
    tally.print(args.json)?;
    tally.verdict()
}

/// The given secret, else the configured one for that shop, else local mode's.
fn secret(args: &SendArgs, config: &Config) -> Result<Secret, Failure> {
    let of_shop = config
        .auth
        .shop_secrets
        .as_ref()
        .and_then(|shops| shops.get(&args.shop.to_ascii_lowercase())?.first());
    let configured = args.secret.as_ref().or(of_shop).or(config.auth.shopify_secrets.first());
    if let Some(secret) = configured {
        return Ok(secret.clone());
    }
    local::find(&config.data_dir)?.map(|local| local.shopify_secret).ok_or_else(|| {
        let place = config.data_dir.display();
        Failure::Usage(format!(
            "error: no secret to sign with: give --secret, set ORDERSTREAM_SHOPIFY_SECRETS, or start `orderstream` in \
             local mode first (it keeps its secrets in {place})\n"
        ))
    })
}
