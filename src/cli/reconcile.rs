//! `reconcile`.

use std::sync::Arc;

use clap::Args;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

use super::backend::{Access, enter, open_stream, stream_file};
use super::output::{OutputArgs, progress, span, table};
use super::{Exit, Failure, shopify};
use crate::config::{self, Config};
use crate::folder::{self, Folder};
use crate::shopify_admin::OrderSpan;
use crate::shopify_admin::reconcile::{
    BULK_ABOVE, FigureDays, FigureDifference, FiguresReport, ReconciledOrder, Reconciler, Reconciliation,
};
use crate::stream::Stream;
use crate::warehouse::Warehouse;
use crate::warehouse::embedded::EmbeddedWarehouse;
use crate::warehouse::postgres::PostgresWarehouse;

/// Orders that are printed at most; `--json` has more.
const PRINTED: usize = 20;

/// Arguments of `reconcile`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream reconcile --dry-run              what the warehouse lacks of the last three days
  orderstream reconcile --since 2026-01-01     finds and repairs it since that day
  orderstream reconcile --figures --since 30d  also compares daily_sales with Shopify's own report

Needs access to the shop's Admin API (docs/SHOPIFY.md). Repairs are events, which workers load. A process with workers does
the same every 15 minutes. Orders that are on their way already are left alone. Exit code 69: something is left to repair, or
figures differ.")]
pub(super) struct ReconcileArgs {
    /// Orders that changed since then: a time, a day (UTC), or how long ago
    #[arg(long, value_name = "TIME", default_value = "3d", value_parser = ago)]
    since: OffsetDateTime,
    /// Orders that changed before then; the shop's search shows the newest changes late
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = ago)]
    until: OffsetDateTime,
    /// Only this shop
    #[arg(long)]
    shop: Option<String>,
    /// Repair nothing
    #[arg(long)]
    dry_run: bool,
    /// Compare daily_sales with Shopify's report, over the shop's days that are over (scope read_reports)
    #[arg(long)]
    figures: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn ago(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(at);
    }
    if let Ok(day) = Date::parse(text, time::macros::format_description!("[year]-[month]-[day]")) {
        return Ok(PrimitiveDateTime::new(day, Time::MIDNIGHT).assume_utc());
    }
    let ago = config::duration(text).and_then(|ago| OffsetDateTime::now_utc().checked_sub(ago.try_into().ok()?));
    ago.ok_or_else(|| "not a time (2026-01-31T09:00:00Z), a day (2026-01-31) or a duration (3d, 2h)".to_owned())
}

/// Compares, repairs and prints what was found.
///
/// # Errors
/// A service cannot be reached, or something is left to repair.
pub(super) async fn run(args: ReconcileArgs, config: Config) -> Result<(), Failure> {
    let changed = OrderSpan::new(args.since, args.until);
    if changed.since >= changed.until {
        return Err(Failure::Usage("error: --since must be before --until\n".to_owned()));
    }
    let clients = shopify::clients(&config, args.shop.as_deref()).await?;
    let mut days = Vec::new();
    for client in &clients {
        days.push(if args.figures {
            Some(FigureDays::of(client, changed)?.ok_or_else(no_day)?)
        } else {
            None
        });
    }
    let stores = ReconcileStores::open(&config).await?;
    let mut reports = Vec::new();
    for (client, days) in clients.iter().zip(days) {
        let reconciler = Reconciler {
            client,
            stream: &*stores.stream,
            warehouse: &*stores.warehouse,
            dry_run: args.dry_run,
            by_hand: true,
            bulk_above: BULK_ABOVE,
            folder: &config.data_dir,
        };
        let bar = progress(None);
        let report = reconciler.run(changed, |seen| bar.set_position(seen)).await;
        bar.finish_and_clear();
        let mut report = report?;
        if let Some(days) = days {
            report.figures = Some(days.compare(client, &*stores.warehouse).await?);
        }
        reports.push(report);
    }
    let lines = || reports.iter().flat_map(lines).collect();
    args.output.print(&serde_json::json!({ "shops": reports }), lines)?;
    let is_equal = |report: &Reconciliation| report.figures.as_ref().is_none_or(|figures| figures.days_differ == 0);
    if reports.iter().all(|report| report.is_clean() && is_equal(report)) {
        Ok(())
    } else {
        Err(Failure::Reported(Exit::Unavailable))
    }
}

fn no_day() -> Failure {
    let text = "error: --figures compares whole days of the shop: give a --since of yesterday or before\n";
    Failure::Usage(text.to_owned())
}

/// Stream and warehouse, opened by this process.
struct ReconcileStores {
    stream: Arc<dyn Stream>,
    warehouse: Box<dyn Warehouse>,
    /// Owned meanwhile, where a store is a file.
    _folder: Option<Folder>,
}

impl ReconcileStores {
    async fn open(config: &Config) -> Result<Self, Failure> {
        if config.redis.is_none() {
            stream_file(config)?;
        }
        let mut folder = None;
        if config.redis.is_none() || config.database.is_none() {
            match enter(config, "reconcile").await? {
                Access::Owned(owned) => folder = Some(owned),
                Access::Running(owner, _) => {
                    return Err(Failure::Unavailable(format!(
                        "the files are in use by {owner}, which reconciles every 15 minutes where it has access to the \
                         Admin API; stop it to do it by hand"
                    )));
                }
            }
        }
        let warehouse: Box<dyn Warehouse> = match (&config.database, &folder) {
            (Some(database), _) => Box::new(PostgresWarehouse::new(database)?),
            (None, Some(folder)) => Box::new(EmbeddedWarehouse::open(&folder.file(folder::WAREHOUSE)?)),
            (None, None) => return Err(Failure::Unavailable("the data folder is not open".to_owned())),
        };
        // Only a warehouse with tables can be compared.
        warehouse.check().await?;
        Ok(Self {
            stream: open_stream(config, folder.as_ref()).await?,
            warehouse,
            _folder: folder,
        })
    }
}

fn lines(report: &Reconciliation) -> Vec<String> {
    let counts = [
        (report.missing, "missing"),
        (report.stale, "stale"),
        (report.deleted, "deleted"),
        (report.waiting, "on their way"),
        (report.dead_lettered, "dead-lettered"),
        (report.vanished, "vanished"),
        (report.ours_newer, "newer here"),
        (report.repaired, "repaired"),
        (report.failed, "not repaired"),
    ];
    let counted = counts.iter().filter(|(count, _)| *count > 0);
    let mut counted = Vec::from_iter(counted.map(|(count, what)| format!("{count} {what}")));
    if counted.is_empty() {
        counted.push("the warehouse has them all".to_owned());
    }
    let took = span(std::time::Duration::try_from_secs_f64(report.seconds).unwrap_or_default());
    let dry = if report.dry_run { " (nothing was repaired)" } else { "" };
    let mut lines = vec![format!(
        "{}: {} orders compared: {}{dry}; {} points, {took}",
        report.shop,
        report.seen,
        counted.join(", "),
        report.points
    )];
    if !report.orders.is_empty() {
        let row = |one: &ReconciledOrder| {
            let detail = one.detail.clone().unwrap_or_default();
            [one.order_id.clone(), one.finding.to_string(), detail]
        };
        lines.extend(table(
            ["order", "finding", ""],
            report.orders.iter().take(PRINTED).map(row),
        ));
    }
    if report.orders.len() > PRINTED {
        lines.push(format!(
            "... and {} more; --json has them",
            report.orders.len() - PRINTED
        ));
    }
    lines.extend(report.silent.iter().map(ToString::to_string));
    if let Some(figures) = &report.figures {
        lines.extend(figure_lines(figures, report.repaired > 0));
    }
    lines
}

fn figure_lines(figures: &FiguresReport, was_repaired: bool) -> Vec<String> {
    let FiguresReport { first, last, days, .. } = figures;
    let mut lines = vec![match figures.days_differ {
        0 => format!("daily_sales from {first} to {last} equals Shopify's report ({days} days with sales)"),
        differ => {
            format!("daily_sales from {first} to {last} differs from Shopify's report on {differ} of {days} days")
        }
    }];
    if figures.days_differ > 0 && was_repaired {
        lines.push("orders that were repaired just now may not be loaded yet: compare again".to_owned());
    }
    if !figures.differences.is_empty() {
        let row = |one: &FigureDifference| {
            let order = one.order_id.clone().unwrap_or_else(|| "all".to_owned());
            let amounts = [&one.ours, &one.shopify, &one.difference].map(Clone::clone);
            let [ours, shopify, difference] = amounts;
            [one.day.clone(), order, one.column.to_owned(), ours, shopify, difference]
        };
        let headings = ["day", "order", "column", "here", "Shopify", "difference"];
        lines.extend(table(headings, figures.differences.iter().take(2 * PRINTED).map(row)));
    }
    if figures.differences.len() > 2 * PRINTED {
        lines.push("... and more; --json has them".to_owned());
    }
    lines
}
