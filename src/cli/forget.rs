//! `forget`.

mod export;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::backend::{Backend, Needs};
use super::output::{OutputArgs, progress};
use super::stepper::{all, confirm};
use super::{Exit, Failure};
use crate::config::Config;
use crate::operations::{ExportPerson, ForgetRequest, ForgetStep};

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream forget --customer 6900000000005             after a customers/redact request
  orderstream forget --customer 6900000000005 --verify    nothing of that customer may be left
  orderstream forget --customer 6900000000005 --verify --export held.json
                                                          all that is held of that customer, to answer a request for it
  orderstream forget --shop example.myshopify.com         every customer of a shop, after shop/redact

Figures stay; the customer's id, kept bodies, kept attributes and properties go, and no later event brings them back.
Asks for confirmation; without a terminal, --yes is needed. What a consumer group still needs stays in the stream, and the
exit code is 69: run it again then. Backups, and files that were set aside as damaged, are yours to delete.")]
pub(super) struct ForgetArgs {
    /// Id of the customer
    #[arg(long, value_name = "ID", required_unless_present = "shop")]
    customer: Option<String>,
    /// The shop: all its customers, or where the customer is looked for
    #[arg(long)]
    shop: Option<String>,
    /// Further orders of the customer, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',', requires = "customer")]
    orders: Vec<String>,
    /// Change nothing, count what is still there
    #[arg(long)]
    verify: bool,
    /// First write all that is held of the customer to that new file, as JSON; only you may read it
    #[arg(long, value_name = "FILE", requires = "customer")]
    export: Option<PathBuf>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Sums of a run.
#[derive(Debug, Default, Serialize)]
struct ForgetSummary {
    events: u64,
    orders: u64,
    entries: u64,
    letters: u64,
    waiting: u64,
    spooled: u64,
    verify: bool,
    complete: bool,
    /// Records that were written to the file, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    exported: Option<u64>,
}

/// Forgets a customer or a shop, or looks for what is left.
///
/// # Errors
/// It is not confirmed, a store does not answer, or something is left.
pub(super) async fn run(args: ForgetArgs, config: Config) -> Result<(), Failure> {
    if !args.verify {
        let what = match (&args.customer, &args.shop) {
            (Some(customer), _) => format!("customer {customer}"),
            (None, shop) => format!("every customer of {}", shop.as_deref().unwrap_or_default()),
        };
        confirm(&format!("About to forget {what}. This cannot be undone."), args.yes)?;
    }
    let backend = Backend::open(&config, "forget", Needs::Both).await?;
    let mut summary = ForgetSummary {
        verify: args.verify,
        ..ForgetSummary::default()
    };
    if let (Some(path), Some(customer)) = (&args.export, &args.customer) {
        let request = ExportPerson {
            customer: customer.clone(),
            shop: args.shop.clone(),
            orders: args.orders.clone(),
            next: None,
        };
        summary.exported = Some(export::write(&backend, request, path).await?);
    }
    let (mut next, bar) = (None, progress(None));
    let steps = all(async || {
        let step = backend
            .call(ForgetRequest {
                customer: args.customer.clone(),
                shop: args.shop.clone(),
                orders: args.orders.clone(),
                verify: args.verify,
                next: next.take(),
            })
            .await?;
        bar.inc(1);
        summary.add(&step);
        next = step.next;
        Ok(next.is_some())
    });
    summary.complete = steps.await?;
    bar.finish_and_clear();
    args.output.print(&summary, || summary.lines())?;
    if summary.is_clean() {
        Ok(())
    } else {
        Err(Failure::Reported(Exit::Unavailable))
    }
}

impl ForgetSummary {
    fn add(&mut self, step: &ForgetStep) {
        self.events += step.events;
        self.orders += step.orders;
        self.entries += step.entries;
        self.letters += step.dead_letters;
        self.waiting += step.waiting;
        self.spooled += step.spooled;
    }

    /// Whether nothing is left of the person.
    fn is_clean(&self) -> bool {
        let found = self.events + self.orders + self.entries + self.letters;
        self.complete && self.waiting + self.spooled == 0 && (!self.verify || found == 0)
    }

    fn lines(&self) -> Vec<String> {
        let [events, entries, letters] = if self.verify {
            ["rows of order_events", "entries of the stream", "dead letters"]
        } else {
            [
                "rows of order_events without what is personal",
                "entries of the stream removed",
                "dead letters written again without what is personal",
            ]
        };
        let figures = [
            (self.events, events),
            (self.orders, "rows of orders"),
            (self.entries, entries),
            (self.letters, letters),
            (
                self.waiting,
                "left: a consumer group still needs them, or the dead letters are full; run it again",
            ),
            (
                self.spooled,
                "in the spool of this node; they lose it when they are loaded",
            ),
        ];
        let counted = figures.into_iter().filter(|(count, _)| *count > 0);
        let mut lines = Vec::from_iter(counted.map(|(count, what)| format!("{count:>8}  {what}")));
        if lines.is_empty() {
            lines.push("nothing is left of that customer or shop".to_owned());
        }
        lines.extend(
            self.exported
                .map(|count| format!("{count:>8}  records written to the file")),
        );
        if !self.complete {
            lines.push("interrupted: the above is done; the same command goes on".to_owned());
        }
        lines
    }
}
