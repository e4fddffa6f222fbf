//! `import`: orders of a shop's history, by bulk operations of the Admin API or from files.

mod history;
mod sending;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::history::{HistoryImport, HistoryOptions, HistorySummary};
use self::sending::ImportSender;
use super::backend::{Backend, Needs};
use super::output::{OutputArgs, progress};
use super::reconcile::ago;
use super::stepper::all;
use super::{Exit, Failure, shopify};
use crate::config::{self, Config};
use crate::folder;
use crate::import::{FileState, Import, ImportError, ImportOptions, Rejections};
use crate::shopify::{Asked, KeptNames, ShopZone};
use crate::shopify_admin::AdminClient;

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream import                                                   all orders of the shop
  orderstream import --since 2024-01-01 --dry-run                      how many there are
  orderstream import --shop example.myshopify.com orders.json.gz       from a file: orders of the REST API
  orderstream import --time-zone Europe/Berlin bulk-123.jsonl          from the file of a bulk operation

Without FILE it asks the Admin API, by bulk operations over windows of created_at (docs/SHOPIFY.md says which access that takes).
Files: a bulk operation's JSONL over orders (children anywhere in it), {\"orders\": [...]} or one order a line as the REST API has
them, each also as .gz; they need no access to Shopify. Appending waits while webhooks need the room. The command may be
interrupted, or killed, and started again: it goes on where it was, and what was sent before is recognized by its event id.
Exit code 69: some orders became no event; they are named, and the rest is imported.")]
pub(super) struct ImportArgs {
    /// Files to import, in place of asking the Admin API
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Domain of the shop [default: the one that has access to the Admin API]
    #[arg(long)]
    shop: Option<String>,
    /// Orders created since then: a time, a day (UTC), or how long ago [default: the first]
    #[arg(long, value_name = "TIME", value_parser = ago, conflicts_with = "files")]
    since: Option<OffsetDateTime>,
    /// Orders created before then [default: now]
    #[arg(long, value_name = "TIME", value_parser = ago, conflicts_with = "files")]
    until: Option<OffsetDateTime>,
    /// Bulk operations that run at once
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u8).range(1..=4), conflicts_with = "files")]
    parallel: u8,
    /// How long to wait while others' bulk operations use up what Shopify allows
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = wait, conflicts_with = "files")]
    wait: Duration,
    /// The shop's time zone, such as Europe/Berlin; for a bulk operation's file [default: what the Admin API says]
    #[arg(long, value_name = "ZONE", value_parser = zone, requires = "files")]
    time_zone: Option<ShopZone>,
    /// Orders a second at most
    #[arg(long)]
    rate: Option<NonZeroU32>,
    /// Import again what was imported before
    #[arg(long)]
    restart: bool,
    /// Append nothing, count
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

fn wait(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| "not a duration, such as 10m or 0s".to_owned())
}

fn zone(text: &str) -> Result<ShopZone, String> {
    ShopZone::named(text).ok_or_else(|| "no zone of the IANA database, such as Europe/Berlin".to_owned())
}

/// What is printed.
#[derive(Debug, Default, Serialize)]
struct ImportSummary {
    shop: String,
    /// Orders that were appended; of a dry run, that would be.
    orders: u64,
    /// Files that were imported before.
    files_done_before: u64,
    /// Lines that belong to no order of their file.
    orphans: u64,
    rejected: Rejections,
    /// Of bulk operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<HistorySummary>,
    dry_run: bool,
    complete: bool,
}

/// Imports the files one after the other, or the shop's history.
///
/// # Errors
/// A file is of no known form, a store or Shopify does not answer, or some orders became no event.
pub(super) async fn run(args: ImportArgs, config: Config) -> Result<(), Failure> {
    let client = client(&args, &config).await?;
    let shop = match &client {
        Some(client) => client.identity().shop.clone(),
        None => shop(&args, &config)?,
    };
    let of_client = |client: &AdminClient| ShopZone::named(&client.identity().timezone);
    let options = ImportOptions {
        asked: Asked::Import,
        shop: &shop,
        zone: args.time_zone.or(client.as_ref().and_then(of_client)),
        kept: KeptNames {
            note_attributes: &config.intake.keep_note_attributes,
            line_properties: &config.intake.keep_line_properties,
        },
    };
    folder::make(&config.data_dir).map_err(|error| {
        Failure::Misconfigured(format!(
            "{}: {error}; set ORDERSTREAM_DATA_DIR",
            config.data_dir.display()
        ))
    })?;
    let name = match args.dry_run {
        true => "import-dry-run.db",
        false => folder::IMPORT,
    };
    let file = config.data_dir.join(name);
    let mut import = Import::open(&file, options, args.restart || args.dry_run)?;
    let backend = match args.dry_run {
        true => None,
        false => Some(Backend::open(&config, "import", Needs::Stream).await?),
    };
    let mut sender = ImportSender::new(backend, args.rate);
    let mut summary = ImportSummary {
        shop: shop.clone(),
        dry_run: args.dry_run,
        complete: true,
        ..ImportSummary::default()
    };
    let done = match &client {
        Some(client) if args.files.is_empty() => {
            all_history(&args, &config.data_dir, client, &mut import, &mut sender, &mut summary).await
        }
        _ => all_files(&args.files, &mut import, &mut sender, &mut summary).await,
    };
    if !args.dry_run || !args.files.is_empty() {
        summary.orders = sender.orders;
    }
    summary.rejected = import.rejections.clone();
    if args.dry_run {
        import.discard();
        let _ = std::fs::remove_file(file.with_extension("lock"));
    }
    done?;
    args.output.print(&summary, || summary.lines())?;
    if summary.complete && summary.rejected.count + summary.orphans == 0 {
        Ok(())
    } else {
        Err(Failure::Reported(Exit::Unavailable))
    }
}

/// The client, where the Admin API is asked: for orders, or for the time zone of a file's.
async fn client(args: &ImportArgs, config: &Config) -> Result<Option<AdminClient>, Failure> {
    let known = &config.shopify_admin.shops;
    if args.files.is_empty() && known.is_empty() {
        shopify::clients(config, args.shop.as_deref()).await?;
    }
    let shop = shop(args, config)?;
    if !args.files.is_empty() && (args.time_zone.is_some() || !known.contains_key(&shop)) {
        return Ok(None);
    }
    Ok(shopify::clients(config, Some(&shop)).await?.pop())
}

async fn all_files(
    files: &[PathBuf],
    import: &mut Import<'_>,
    sender: &mut ImportSender,
    summary: &mut ImportSummary,
) -> Result<(), Failure> {
    for path in files {
        let reading = progress(None);
        let state = tokio::task::block_in_place(|| import.stage(path, || reading.inc(1)))?;
        reading.finish_and_clear();
        let FileState::Staged(orders) = state else {
            summary.files_done_before += 1;
            continue;
        };
        let bar = progress(Some(orders));
        let done = all(async || sender.batch(path, import, &bar).await).await;
        bar.finish_and_clear();
        summary.complete = done?;
        if !summary.complete {
            break;
        }
        summary.orphans += import.finish(path)?;
    }
    Ok(())
}

async fn all_history(
    args: &ImportArgs,
    folder: &Path,
    client: &AdminClient,
    import: &mut Import<'_>,
    sender: &mut ImportSender,
    summary: &mut ImportSummary,
) -> Result<(), Failure> {
    let options = HistoryOptions {
        since: args.since,
        until: args.until,
        parallel: args.parallel.into(),
        wait: args.wait,
        restart: args.restart,
    };
    let mut history = HistoryImport::new(client, folder, options);
    let mut plan = history.plan(import).await?;
    if args.dry_run {
        summary.orders = plan.counted;
    } else if !plan.done_before {
        let done = all(async || history.step(import, sender).await).await;
        history.bar.finish_and_clear();
        summary.complete = done?;
        plan.windows_left = import.windows().left()?.len() as u64;
        summary.orphans = history.orphans;
    }
    summary.history = Some(plan);
    Ok(())
}

/// The shop that the orders are of.
fn shop(args: &ImportArgs, config: &Config) -> Result<String, Failure> {
    let known = &config.shopify_admin.shops;
    let only = known.keys().next().filter(|_| known.len() == 1);
    let shop = args.shop.as_ref().or(only).map(|shop| shop.to_ascii_lowercase());
    let is_domain = |shop: &String| {
        shop.contains('.')
            && shop
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
    };
    shop.filter(is_domain).ok_or_else(|| {
        Failure::Usage("error: whose orders are these? Give --shop, such as example.myshopify.com\n".to_owned())
    })
}

impl ImportSummary {
    fn lines(&self) -> Vec<String> {
        let what = if self.dry_run { "would be sent" } else { "sent" };
        let mut lines = vec![format!("{} orders of {} {what}", self.orders, self.shop)];
        if let Some(history) = &self.history {
            lines.extend(self.history_lines(history));
        }
        if self.files_done_before > 0 {
            lines.push(format!(
                "{} files were imported before; --restart imports them again",
                self.files_done_before
            ));
        }
        if self.orphans > 0 {
            lines.push(format!("{} lines belong to no order of their file", self.orphans));
        }
        if self.rejected.count > 0 {
            lines.push(format!("{} orders became no event:", self.rejected.count));
        }
        for one in &self.rejected.first {
            lines.push(format!("{}:{}: {}", one.file, one.line, one.reason));
        }
        if !self.complete {
            lines.push("interrupted: the above is done; the same command goes on".to_owned());
        }
        lines
    }
}

impl ImportSummary {
    fn history_lines(&self, history: &HistorySummary) -> Vec<String> {
        let time = |at: OffsetDateTime| at.truncate_to_second().format(&Rfc3339).unwrap_or_default();
        let (since, until, started) = (time(history.since), time(history.until), time(history.started_at));
        let mut lines = vec![format!(
            "created from {since} to {until}: {} orders as counted at {started}",
            history.counted
        )];
        if history.done_before {
            lines.push("they were imported before; --restart imports them again".to_owned());
        } else if self.complete && !self.dry_run {
            let since = time(history.reconcile_since());
            lines.push(format!(
                "what changed meanwhile: `orderstream reconcile --since {since}`, unless webhooks came"
            ));
        }
        lines
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::NoZone { .. } => Self::Usage(format!("error: {error}\n")),
            ImportError::Io { .. } | ImportError::Form { .. } => Self::NotFound(error.to_string()),
            ImportError::Busy(_) | ImportError::Staging { .. } => Self::Unavailable(error.to_string()),
        }
    }
}
