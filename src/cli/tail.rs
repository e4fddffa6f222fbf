//! `tail`: prints events as they come.
//!
//! Once a second it reads what was appended since, with the request that lists entries. Where more
//! came than it reads, the older ones are skipped and their number is said on stderr: a slow reader
//! falls behind no further, and the stream is asked for a bounded number of entries.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use tokio::time::{MissedTickBehavior, interval};
use url::Url;

use super::Failure;
use super::backend::{Backend, Needs};
use super::output::{OutputArgs, cell, print_one, reader_closed};
use super::remote::Remote;
use crate::config::Config;
use crate::operations::{EntryQuery, EntrySummary, GetConsumers};
use crate::stream::StreamId;

/// Between two reads.
const PERIOD: Duration = Duration::from_secs(1);
/// Entries of one request; the most that it answers.
const PAGE: usize = 200;
/// Entries read at each turn.
const MOST: u64 = 5_000;
/// Read again each time: ids of several partitions become visible out of order, by less than this.
const OVERLAP_MS: u64 = 100;

/// Arguments of `tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream tail                                the newest events, then each as it comes
  orderstream tail --topic refunds/create --json  of one topic, one JSON object a line
  orderstream tail --url http://10.0.0.5:9090     of another machine (ORDERSTREAM_ADMIN_TOKEN)")]
pub(super) struct TailArgs {
    /// Only of this topic of webhooks, such as orders/paid
    #[arg(long)]
    topic: Option<String>,
    /// Only of this shop
    #[arg(long)]
    shop: Option<String>,
    /// Only of this order: its id, or its name, such as '#1042'
    #[arg(long)]
    order: Option<String>,
    /// Begin with so many of the newest events
    #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=200))]
    last: u16,
    /// Ask the process whose private listener has this address, in place of the configured stream
    #[arg(long)]
    url: Option<Url>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints events until Ctrl-C, or until nobody reads them any more.
///
/// # Errors
/// The stream does not answer at first; later it is waited for.
pub(super) async fn run(args: TailArgs, config: Config) -> Result<(), Failure> {
    let backend = match &args.url {
        Some(url) => Backend::Remote(Remote::at(&config, url.as_str().trim_end_matches('/').to_owned())?),
        None => Backend::open(&config, "tail", Needs::Stream).await?,
    };
    if backend.is_idle() {
        return Err(Failure::Unavailable(format!(
            "no process runs on {}, so that no event comes: start `orderstream`",
            config.data_dir.display()
        )));
    }
    tokio::select! {
        ended = follow(&args, &backend) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
        () = reader_closed() => Ok(()),
    }
}

async fn follow(args: &TailArgs, backend: &Backend) -> Result<(), Failure> {
    let mut tail = Tail::begin(backend).await?;
    let before = EntryQuery {
        to: Some(tail.newest),
        count: Some(args.last.into()),
        ..args.filter()
    };
    if args.last > 0 && args.print(&backend.call(before).await?.entries)?.is_break() {
        return Ok(());
    }
    let mut turns = interval(PERIOD);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_silent = false;
    loop {
        turns.tick().await;
        match tail.turn(args, backend).await {
            Ok(entries) => {
                is_silent = false;
                if args.print(&entries)?.is_break() {
                    return Ok(());
                }
            }
            Err(failure) if !is_silent => {
                is_silent = true;
                say(&format!("{failure}; it is asked again every second"));
            }
            Err(_) => {}
        }
    }
}

/// How far it read.
struct Tail {
    /// The first that was not there at the beginning.
    first: StreamId,
    /// The newest entry that was read.
    newest: StreamId,
    /// What was printed of the time that is read again.
    seen: BTreeSet<StreamId>,
    /// Entries ever appended, at the last turn; `None` where the store does not count them.
    added: Option<u64>,
}

impl Tail {
    async fn begin(backend: &Backend) -> Result<Self, Failure> {
        let added = backend.call(GetConsumers {}).await?.entries_added;
        let query = EntryQuery {
            count: Some(1),
            ..EntryQuery::default()
        };
        let newest = backend.call(query).await?.newest;
        Ok(Self {
            first: newest.and_then(StreamId::successor).unwrap_or(StreamId::MIN),
            newest: newest.unwrap_or(StreamId::MIN),
            seen: BTreeSet::new(),
            added,
        })
    }

    /// Which of a page were not printed yet; they count as printed from now on.
    fn unseen(&mut self, mut entries: Vec<EntrySummary>) -> Vec<EntrySummary> {
        entries.retain(|entry| self.seen.insert(entry.id));
        let again_from = self.again_from();
        self.seen.retain(|id| *id >= again_from);
        entries
    }

    fn again_from(&self) -> StreamId {
        self.first
            .max(StreamId::new(self.newest.ms.saturating_sub(OVERLAP_MS), 0))
    }

    /// What came since, newest first.
    async fn turn(&mut self, args: &TailArgs, backend: &Backend) -> Result<Vec<EntrySummary>, Failure> {
        let mut added = backend.call(GetConsumers {}).await?.entries_added;
        let from = self.again_from();
        let (mut found, mut looked_at, mut newest, mut to) = (Vec::new(), 0, self.newest, None);
        loop {
            let query = EntryQuery {
                from: Some(from),
                to,
                count: Some(PAGE),
                ..args.filter()
            };
            let page = backend.call(query).await?;
            looked_at += page.looked_at;
            newest = newest.max(page.newest.unwrap_or(StreamId::MIN));
            found.extend(page.entries);
            to = page.next;
            if to.is_none() || looked_at >= MOST {
                break;
            }
        }
        if to.is_some() {
            // Counted now: many may have come since the count above.
            added = backend.call(GetConsumers {}).await?.entries_added;
            let came = added.zip(self.added).map(|(now, before)| now.saturating_sub(before));
            match came.map(|came| came.saturating_sub(looked_at)) {
                Some(skipped) => say(&format!("skipped about {skipped} events: more came than are read")),
                None => say("skipped events: more came than are read"),
            }
        }
        (self.newest, self.added) = (newest, added);
        Ok(self.unseen(found))
    }
}

impl TailArgs {
    fn filter(&self) -> EntryQuery {
        EntryQuery {
            topic: self.topic.clone(),
            shop: self.shop.clone(),
            order: self.order.clone(),
            ..EntryQuery::default()
        }
    }

    /// Prints a page, which is newest first, oldest first.
    fn print(&self, entries: &[EntrySummary]) -> Result<ControlFlow<()>, Failure> {
        for entry in entries.iter().rev() {
            if print_one(self.output, entry, || vec![line(entry)])?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn line(entry: &EntrySummary) -> String {
    let order = entry.name.as_deref().or(entry.order_id.as_deref());
    let amount = match (&entry.total_amount, &entry.currency) {
        (Some(amount), Some(currency)) => format!("{amount} {currency}"),
        _ => cell(None),
    };
    format!(
        "{:<24}  {:<25}  {:<10}  {amount:>14}  {}  {}",
        cell(entry.received_at.as_deref()),
        cell(entry.event_type.as_deref()),
        cell(order),
        cell(entry.shop.as_deref()),
        entry.id
    )
}

/// Of the run itself; results alone go to stdout. A closed stderr is no failure.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "orderstream: {text}");
}
