//! `send`: signed test webhooks to a running instance, generated or from files. A storm mixes in
//! everything that can happen to webhooks; `--verify` checks that they landed.
//!
//! Layout, in the order of a run: `args.rs`; what to send (`mix.rs` plans, `deliveries.rs` signs
//! orders of `crate::sample_orders`); when (`schedule.rs`, `sender.rs`); the answers
//! (`summary.rs`); the outcome (`verify.rs`). Invariants: a seed repeats every byte, while orders
//! are of today without one; with a rate,
//! latency counts from the scheduled time; a delivery is sent once, never retried.

mod args;
mod deliveries;
mod mix;
mod schedule;
mod sender;
mod summary;
mod verify;

use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

pub(super) use self::args::SendArgs;
use self::deliveries::{Bodies, Deliveries};
use self::mix::{MOST, Mix};
use self::schedule::Schedule;
use self::sender::Sending;
use self::summary::SendSummary;
use self::verify::{Checklist, Verified, verify};
use super::Failure;
use super::backend::{Backend, Needs};
use super::remote::Instance;
use crate::config::{Config, Secret, local};
use crate::sample_orders::Generator;

/// Sends, prints the summary, and succeeds where every answer was expected and, with `--verify`,
/// everything landed.
///
/// # Errors
/// Wrong arguments, no secret, an unexpected answer, or an event that is missing, doubled or wrong.
pub(super) async fn run(args: SendArgs, config: Config) -> Result<(), Failure> {
    args.check()?;
    let base = match &args.url {
        Some(url) => url.clone(),
        None => format!("http://{}", Instance::of(&config).await.public),
    };
    let url = format!("{}/webhooks/orders", base.trim_end_matches('/'));
    let url = url::Url::parse(&url).map_err(|error| Failure::Usage(format!("error: --url {base}: {error}\n")))?;
    let deliveries = deliveries(&args, secrets(&args, &config)?)?;
    let sending = Sending {
        url: url.clone(),
        schedule: Schedule {
            rate: args.rate(),
            shape: args.shape(),
            count: deliveries.count(),
        },
        concurrency: args.concurrency(),
        timeout: Duration::from_secs(args.timeout),
    };
    // That a store does not answer is found out before anything is sent.
    let backend = match args.verify {
        Some(patience) => Some((Backend::open(&config, "send", Needs::Both).await?, patience)),
        None => None,
    };
    let stop = CancellationToken::new();
    let mut summary = SendSummary::new(url.to_string());
    let mut checklist = backend.as_ref().map(|_| Checklist::default());
    // Deliveries under way are awaited, then the summary is printed.
    until_interrupted(
        &stop,
        sender::send(sending, deliveries, stop.clone(), &mut summary, &mut checklist),
    )
    .await?;
    let verified = match (backend, checklist) {
        (Some((backend, patience)), Some(checklist)) if !summary.is_silent_after(1) => {
            let stop = CancellationToken::new();
            let verified = until_interrupted(&stop, verify(checklist, &backend, patience, &stop)).await;
            if let Err(error) = verified {
                print(&args, &summary, None)?;
                return Err(error);
            }
            verified.ok()
        }
        _ => None,
    };
    print(&args, &summary, verified.as_ref())?;
    summary.verdict()?;
    match verified {
        Some(verified) if !verified.is_right() => Err(Failure::Unavailable(
            "not every promised event landed as it should: see the findings".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn print(args: &SendArgs, summary: &SendSummary, verified: Option<&Verified>) -> Result<(), Failure> {
    let mut result = summary.json();
    result["verified"] = serde_json::to_value(verified).unwrap_or_default();
    let lines = || [summary.text(), verified.map(Verified::text).unwrap_or_default()].concat();
    args.output.print(&result, lines)
}

/// Runs it to its end; Ctrl-C fires `stop`.
async fn until_interrupted<T>(stop: &CancellationToken, running: impl Future<Output = T>) -> T {
    tokio::pin!(running);
    tokio::select! {
        done = &mut running => done,
        _ = tokio::signal::ctrl_c() => {
            stop.cancel();
            running.await
        }
    }
}

fn deliveries(args: &SendArgs, secrets: Vec<Secret>) -> Result<Deliveries, Failure> {
    let seed = args.seed.unwrap_or_else(rand::random);
    let generator = match args.seed {
        Some(_) => Generator::new(seed, Generator::epoch()),
        None => Generator::up_to(seed, OffsetDateTime::now_utc()),
    };
    let bodies = match args.topic() {
        topic if !args.file.is_empty() => Bodies::read(&args.file, topic.to_owned())?,
        args::MIXED => Bodies::Histories(generator),
        topic => Bodies::OfTopic(generator, topic.to_owned()),
    };
    let shares = args.shares(secrets.len() > 1)?;
    let count = args.count();
    let mix = if shares.are_none() && args.topic() != args::MIXED {
        Mix::Plain(count)
    } else if count > MOST {
        return Err(Failure::Usage(format!(
            "error: a mix is planned before it is sent: --count is at most {MOST}\n"
        )));
    } else {
        Mix::new(count, shares, seed, |order| bodies.steps(order))
    };
    Deliveries::new(mix, bodies, seed, &secrets, args.shop.clone())
}

/// The given secrets, else the configured ones for that shop, else local mode's; the newest first.
fn secrets(args: &SendArgs, config: &Config) -> Result<Vec<Secret>, Failure> {
    let of_shop = config
        .auth
        .shop_secrets
        .as_ref()
        .and_then(|shops| shops.get(&args.shop.to_ascii_lowercase()));
    let known = [Some(&args.secret), of_shop, Some(&config.auth.shopify_secrets)];
    if let Some(secrets) = known.into_iter().flatten().find(|secrets| !secrets.is_empty()) {
        return Ok(secrets.clone());
    }
    let local = local::find(&config.data_dir)?.map(|local| vec![local.shopify_secret]);
    local.ok_or_else(|| {
        let place = config.data_dir.display();
        Failure::Usage(format!(
            "error: no secret to sign with: give --secret, set ORDERSTREAM_SHOPIFY_SECRETS, or start `orderstream` in \
             local mode first (it keeps its secrets in {place})\n"
        ))
    })
}
