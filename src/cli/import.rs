//! `import`: orders of a shop's history, from files.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::Instant;

use super::backend::{Backend, Needs};
use super::output::{OutputArgs, progress};
use super::stepper::all;
use super::{Exit, Failure, shopify};
use crate::config::Config;
use crate::folder;
use crate::import::{FileState, Import, ImportError, ImportOptions, Rejections};
use crate::operations::{ImportRequest, MOST_IMPORT_BYTES, MOST_IMPORT_EVENTS};
use crate::shopify::{KeptNames, ShopZone};

/// Pause while webhooks come first.
const YIELD: Duration = Duration::from_millis(500);

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream import --shop example.myshopify.com orders.json.gz      orders of the REST API
  orderstream import --time-zone Europe/Berlin bulk-123.jsonl          the file of a bulk operation
  orderstream import --dry-run *.jsonl                                 what would become of them

Files: a bulk operation's JSONL over orders (children anywhere in it), {\"orders\": [...]} or one order a line as the REST API has
them, each also as .gz. No access to Shopify is needed. Appending waits while webhooks need the room. The command may be
interrupted, or killed, and started again: it goes on where it was, and what was sent before is recognized by its event id.
Exit code 69: some orders became no event; they are named, and the rest is imported.")]
pub(super) struct ImportArgs {
    /// Files to import
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Domain of the shop [default: the one that has access to the Admin API]
    #[arg(long)]
    shop: Option<String>,
    /// The shop's time zone, such as Europe/Berlin; for bulk operations [default: what the Admin API says]
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    time_zone: Option<ShopZone>,
    /// Orders a second at most
    #[arg(long)]
    rate: Option<NonZeroU32>,
    /// Import files again that were imported before
    #[arg(long)]
    restart: bool,
    /// Append nothing, count
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
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
    dry_run: bool,
    complete: bool,
}

/// Imports the files, one after the other.
///
/// # Errors
/// A file is of no known form, a store does not answer, or some orders became no event.
pub(super) async fn run(args: ImportArgs, config: Config) -> Result<(), Failure> {
    let shop = shop(&args, &config)?;
    let has_access = config.shopify_admin.shops.contains_key(&shop);
    let zone = match args.time_zone {
        None if has_access => {
            let clients = shopify::clients(&config, Some(&shop)).await?;
            let name = clients.first().map(|client| client.identity().timezone.clone());
            ShopZone::named(&name.unwrap_or_default())
        }
        zone => zone,
    };
    let options = ImportOptions {
        shop: &shop,
        zone,
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
    let mut summary = ImportSummary {
        shop: shop.clone(),
        dry_run: args.dry_run,
        complete: true,
        ..ImportSummary::default()
    };
    let mut pace = Pace::new(args.rate);
    for path in &args.files {
        if summary.complete {
            one_file(path, &mut import, backend.as_ref(), &mut pace, &mut summary).await?;
        }
    }
    summary.rejected = import.rejections.clone();
    drop(import);
    if args.dry_run {
        remove(&file);
    }
    args.output.print(&summary, || summary.lines())?;
    if summary.complete && summary.rejected.count + summary.orphans == 0 {
        Ok(())
    } else {
        Err(Failure::Reported(Exit::Unavailable))
    }
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

/// The file of a dry run, which nobody goes on with.
fn remove(file: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
    let _ = std::fs::remove_file(file.with_extension("lock"));
}

async fn one_file(
    path: &Path,
    import: &mut Import<'_>,
    backend: Option<&Backend>,
    pace: &mut Pace,
    summary: &mut ImportSummary,
) -> Result<(), Failure> {
    let reading = progress(None);
    let state = tokio::task::block_in_place(|| import.stage(path, || reading.inc(1)))?;
    reading.finish_and_clear();
    let FileState::Staged(orders) = state else {
        summary.files_done_before += 1;
        return Ok(());
    };
    let bar = progress(Some(orders));
    let done = all(async || one_batch(path, import, backend, pace, summary, &bar).await).await;
    bar.finish_and_clear();
    summary.complete = done?;
    if summary.complete {
        summary.orphans += import.finish(path)?;
    }
    Ok(())
}

/// Sends a batch; answers whether more is left.
async fn one_batch(
    path: &Path,
    import: &mut Import<'_>,
    backend: Option<&Backend>,
    pace: &mut Pace,
    summary: &mut ImportSummary,
    bar: &ProgressBar,
) -> Result<bool, Failure> {
    let most = pace.portion(MOST_IMPORT_EVENTS);
    let batch = tokio::task::block_in_place(|| import.next(path, most, MOST_IMPORT_BYTES))?;
    if batch.is_end() {
        return Ok(false);
    }
    let count = batch.events.len() as u64;
    if let Some(backend) = backend.filter(|_| count > 0) {
        let events = batch.events.clone();
        let step = backend.call(ImportRequest { events }).await?;
        if let Some(why) = step.waits {
            bar.set_message(why);
            tokio::time::sleep(YIELD).await;
            return Ok(true);
        }
    }
    tokio::task::block_in_place(|| import.settle(batch))?;
    summary.orders += count;
    bar.inc(count);
    pace.pay(count).await;
    Ok(true)
}

/// So many orders a second, or as fast as they are taken.
struct Pace {
    rate: Option<NonZeroU32>,
    due: Instant,
}

impl Pace {
    fn new(rate: Option<NonZeroU32>) -> Self {
        Self {
            rate,
            due: Instant::now(),
        }
    }

    /// Orders of a batch: of a slow run, those of about a second.
    fn portion(&self, most: usize) -> usize {
        let a_second = self.rate.and_then(|rate| usize::try_from(rate.get()).ok());
        a_second.unwrap_or(most).clamp(1, most)
    }

    async fn pay(&mut self, orders: u64) {
        if let Some(rate) = self.rate {
            self.due += Duration::from_secs_f64(orders as f64 / f64::from(rate.get()));
            tokio::time::sleep_until(self.due).await;
        }
    }
}

impl ImportSummary {
    fn lines(&self) -> Vec<String> {
        let what = if self.dry_run { "would be sent" } else { "sent" };
        let mut lines = vec![format!("{} orders of {} {what}", self.orders, self.shop)];
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

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::NoZone { .. } => Self::Usage(format!("error: {error}\n")),
            ImportError::Io { .. } | ImportError::Form { .. } => Self::NotFound(error.to_string()),
            ImportError::Busy(_) | ImportError::Staging { .. } => Self::Unavailable(error.to_string()),
        }
    }
}
