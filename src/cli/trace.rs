//! `trace`: one order from webhook to row, as one timeline.

use clap::Args;
use time::format_description::well_known::Rfc3339;

use super::backend::{Backend, Needs};
use super::output::{OutputArgs, cell, table};
use super::{Exit, Failure};
use crate::config::Config;
use crate::operations::{TimelineEvent, Trace, TraceQuery};
use crate::warehouse::history::OrderState;

/// Arguments of `trace`.
#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    /// Its id, or its name, such as '#1042'
    order: String,
    /// Only of this shop
    #[arg(long)]
    shop: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints what is retained of the order.
///
/// # Errors
/// Nothing is, or a store does not answer.
pub(super) async fn run(args: TraceArgs, config: Config) -> Result<(), Failure> {
    let backend = Backend::open(&config, "trace", Needs::Both).await?;
    let query = TraceQuery {
        order: args.order,
        shop: args.shop,
    };
    let trace = backend.call(query).await?;
    args.output.print(&trace, || text(&trace))?;
    if trace.timeline.is_empty() && trace.orders.is_empty() {
        return Err(Failure::Reported(Exit::Unavailable));
    }
    Ok(())
}

fn text(trace: &Trace) -> Vec<String> {
    let mut parts = Vec::new();
    if trace.timeline.is_empty() && trace.orders.is_empty() {
        parts.push(vec![format!("nothing was found of {}", trace.order)]);
    }
    parts.extend(trace.orders.iter().map(|one| vec![order(one)]));
    if !trace.timeline.is_empty() {
        let rows = trace.timeline.iter().map(row);
        parts.push(table(["when", "event", "type", "what"], rows));
    }
    let spooled = trace.spooled_looked_at.map(|count| {
        let back_to = trace.spooled_looked_back_to.as_deref().unwrap_or("the first");
        format!(", and {count} events of the spool, back to {back_to}")
    });
    let looked = format!(
        "Searched {} entries of the stream, back to {}, and {} dead letters, back to {}{}.",
        trace.entries_looked_at,
        trace.looked_back_to.as_deref().unwrap_or("its beginning"),
        trace.letters_looked_at,
        trace.letters_looked_back_to.as_deref().unwrap_or("the first"),
        spooled.unwrap_or_default()
    );
    parts.push([vec![looked], trace.unknown.clone()].concat());
    parts.join(&String::new())
}

fn order(order: &OrderState) -> String {
    let shop = if order.shop.is_empty() { "no shop" } else { &order.shop };
    let name = order.name.as_deref().unwrap_or("no name");
    let mut line = format!(
        "order {} ({name}, {shop}): {}",
        order.order_id,
        cell(order.status.as_deref())
    );
    if let (Some(amount), Some(currency)) = (&order.total_amount, &order.currency) {
        line.push_str(&format!(", {amount} {currency}"));
    }
    if let Some(at) = order.deleted_at.and_then(|at| at.format(&Rfc3339).ok()) {
        line.push_str(&format!(", deleted {at}"));
    }
    line
}

fn row(event: &TimelineEvent) -> [String; 4] {
    [
        cell(event.at.as_deref()),
        cell(event.event_id.as_deref()),
        cell(event.event_type.as_deref()),
        event.detail.clone(),
    ]
}
