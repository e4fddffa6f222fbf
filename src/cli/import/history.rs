//! A shop's history by bulk operations, window by window of `created_at`.
//!
//! A window is planned, asked for, downloaded, staged and sent; what is known of it stands in
//! `import.db` before the next step is taken, so that the command may be killed at any of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;

use super::sending::ImportSender;
use crate::cli::Failure;
use crate::cli::output::{note, progress, span};
use crate::import::{BulkWindow, FileState, Import, ImportPlan};
use crate::shopify_admin::bulk::{self, BulkStart};
use crate::shopify_admin::{AdminClient, AdminError, BulkError, BulkFetch, BulkStep, OrderSpan};

/// Orders of one window at most, as counted.
const WINDOW: u64 = 20_000;
/// A window that Shopify cannot carry out is halved, down to this.
const SHORTEST: time::Duration = time::Duration::hours(1);
/// Before the first order of any shop.
const BEGINNING: OffsetDateTime = datetime!(2004-01-01 00:00 UTC);
/// What changed so long before the start may be missing: a clock may be wrong by that.
const SLACK: time::Duration = time::Duration::minutes(10);
/// What an import is told.
pub(super) struct HistoryOptions {
    pub(super) since: Option<OffsetDateTime>,
    pub(super) until: Option<OffsetDateTime>,
    /// Operations that run at once.
    pub(super) parallel: usize,
    /// How long it waits for operations of others.
    pub(super) wait: Duration,
    pub(super) restart: bool,
}

/// What the summary says of it.
#[derive(Debug, Serialize)]
pub(super) struct HistorySummary {
    #[serde(with = "time::serde::rfc3339")]
    pub(super) since: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) until: OffsetDateTime,
    /// When it was begun, maybe by a command before this.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) started_at: OffsetDateTime,
    /// Orders that Shopify counted then.
    pub(super) counted: u64,
    pub(super) windows_left: u64,
    /// Whether it was complete before this command.
    pub(super) done_before: bool,
}

impl HistorySummary {
    /// Changes since then may be missing.
    pub(super) fn reconcile_since(&self) -> OffsetDateTime {
        self.started_at - SLACK
    }
}

/// An import of a shop's history that is under way.
pub(super) struct HistoryImport<'a> {
    client: &'a AdminClient,
    folder: &'a Path,
    options: HistoryOptions,
    pub(super) bar: ProgressBar,
    fetch: BulkFetch<'a>,
    /// The file of the oldest window, once it is in `import.db`.
    staged: Option<PathBuf>,
    /// Since when only others' operations run.
    busy_since: Option<Instant>,
    /// No operation is started before then.
    start_after: Instant,
    pub(super) orphans: u64,
}

impl<'a> HistoryImport<'a> {
    pub(super) fn new(client: &'a AdminClient, folder: &'a Path, options: HistoryOptions) -> Self {
        Self {
            client,
            folder,
            options,
            bar: ProgressBar::hidden(),
            fetch: BulkFetch::new(client),
            staged: None,
            busy_since: None,
            start_after: Instant::now(),
            orphans: 0,
        }
    }

    /// Goes on with what is unfinished, or plans it.
    pub(super) async fn plan(&mut self, import: &mut Import<'_>) -> Result<HistorySummary, Failure> {
        let until = self.options.until.unwrap_or_else(OffsetDateTime::now_utc);
        let span = OrderSpan::new(self.options.since.unwrap_or(BEGINNING), until);
        if span.since >= span.until {
            return Err(Failure::Usage("error: --since must be before --until\n".to_owned()));
        }
        let stored = import.windows().plan()?.filter(|_| !self.options.restart);
        let left = import.windows().left()?;
        let is_same =
            |plan: &ImportPlan| plan.since == span.since && (self.options.until.is_none() || plan.until == span.until);
        if let Some(plan) = stored.filter(|plan| !left.is_empty() || is_same(plan)) {
            return Ok(self.begin(plan, &left));
        }
        let started_at = OffsetDateTime::now_utc();
        let windows = self.cut(span).await?;
        let plan = ImportPlan {
            since: span.since,
            until: span.until,
            started_at,
            orders: windows.iter().map(|window| window.orders).sum(),
        };
        import.windows().set_plan(plan, &windows)?;
        let summary = self.begin(plan, &windows);
        Ok(HistorySummary {
            done_before: false,
            ..summary
        })
    }

    fn begin(&mut self, plan: ImportPlan, left: &[BulkWindow]) -> HistorySummary {
        let orders_left: u64 = left.iter().map(|window| window.orders).sum();
        self.bar = progress(Some(plan.orders)).with_position(plan.orders.saturating_sub(orders_left));
        self.bar.reset_eta();
        HistorySummary {
            since: plan.since,
            until: plan.until,
            started_at: plan.started_at,
            counted: plan.orders,
            windows_left: left.len() as u64,
            done_before: left.is_empty(),
        }
    }

    /// The windows of a span that have orders.
    async fn cut(&self, span: OrderSpan) -> Result<Vec<BulkWindow>, AdminError> {
        let (mut windows, mut spans) = (Vec::new(), vec![span]);
        while let Some(span) = spans.pop() {
            let orders = span.count(self.client, "created_at").await?;
            match span.halves(time::Duration::SECOND) {
                Some([first, second]) if orders > WINDOW => spans.extend([second, first]),
                _ if orders > 0 => windows.push(BulkWindow::new(span.since, span.until, orders)),
                _ => {}
            }
        }
        Ok(windows)
    }

    /// Takes one step; answers whether another is to be taken.
    pub(super) async fn step(&mut self, import: &mut Import<'_>, sender: &mut ImportSender) -> Result<bool, Failure> {
        let left = self.request(import).await?;
        let Some(window) = left.first() else { return Ok(false) };
        match (&self.staged, &window.operation) {
            (Some(path), _) => {
                if !sender.batch(path, import, &self.bar).await? {
                    self.orphans += import.finish(path)?;
                    import.windows().replace(window, &[])?;
                    let _ = std::fs::remove_file(path);
                    self.staged = None;
                }
            }
            (None, None) => self.fetch.pause().await,
            (None, Some(id)) => self.fetch(id, window, import).await?,
        }
        Ok(true)
    }

    /// Starts operations over the oldest windows; answers the windows that are left.
    async fn request(&mut self, import: &mut Import<'_>) -> Result<Vec<BulkWindow>, Failure> {
        let mut left = import.windows().left()?;
        let started_at = import.windows().plan()?.map(|plan| plan.started_at - SLACK);
        for place in 0..left.len().min(self.options.parallel) {
            let known = left[place].clone();
            if known.operation.is_some() || Instant::now() < self.start_after {
                continue;
            }
            let mut window = BulkWindow {
                is_asked: true,
                ..known.clone()
            };
            import.windows().replace(&known, std::slice::from_ref(&window))?;
            let span = OrderSpan::new(window.since, window.until);
            let asked_since = started_at.filter(|_| known.is_asked);
            match bulk::start(self.client, span, "created_at", asked_since).await? {
                BulkStart::Started(id) => {
                    window.operation = Some(id);
                    self.busy_since = None;
                }
                BulkStart::Busy(words) => {
                    window.is_asked = false;
                    if place == 0 {
                        self.wait_for_others(&words)?;
                    }
                    self.start_after = Instant::now() + self.fetch.delay();
                }
            }
            import.windows().replace(&known, std::slice::from_ref(&window))?;
            left[place] = window;
        }
        Ok(left)
    }

    /// None of its own operations is to be watched, and others run.
    fn wait_for_others(&mut self, words: &str) -> Result<(), Failure> {
        let is_new = self.busy_since.is_none();
        let since = *self.busy_since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.options.wait {
            self.bar.set_message(words.to_owned());
            // A bar shows it all the time.
            if is_new && self.bar.is_hidden() {
                note(&format!(
                    "other bulk operations of this app run at Shopify; waiting for their end, at most {} (--wait): {words}",
                    span(self.options.wait)
                ));
            }
            return Ok(());
        }
        Err(Failure::Unavailable(format!(
            "other bulk operations of this app run at Shopify: wait for their end, then give the same command, which goes on; \
             Shopify says: {words}"
        )))
    }

    /// Takes a step towards the file of the oldest window, and stages it once it is whole.
    async fn fetch(&mut self, id: &str, window: &BulkWindow, import: &mut Import<'_>) -> Result<(), Failure> {
        let number = id.rsplit('/').next().unwrap_or_default();
        let path = self.folder.join(format!("import-{number}.jsonl"));
        let step = match self.fetch.step(id, &path).await {
            // Once the app may read it, it is another operation's.
            Err(BulkError::Admin(error @ AdminError::Denied { .. })) => {
                unask(window, import)?;
                return Err(error.into());
            }
            step => step?,
        };
        match step {
            BulkStep::Waiting(said) => said.into_iter().for_each(|said| self.bar.set_message(said)),
            BulkStep::Whole(file) => {
                let state = tokio::task::block_in_place(|| import.stage(&path, || ()))?;
                // What was sent by a run before this.
                if let FileState::Staged(orders) = state {
                    self.bar.inc(file.orders.saturating_sub(orders));
                }
                self.staged = Some(path);
            }
            BulkStep::Empty => import.windows().replace(window, &[])?,
            BulkStep::Failed(why) => self.halve(id, &why, window, import).await?,
            BulkStep::Gone => unask(window, import)?,
        }
        Ok(())
    }

    /// What Shopify could not carry out over a window is asked for over its halves.
    async fn halve(&self, id: &str, why: &str, window: &BulkWindow, import: &mut Import<'_>) -> Result<(), Failure> {
        let Some(halves) = OrderSpan::new(window.since, window.until).halves(SHORTEST) else {
            unask(window, import)?;
            return Err(Failure::Unavailable(format!(
                "Shopify cannot carry out the bulk operation {id} over one hour of orders ({why}); give the same                  command later, which goes on"
            )));
        };
        let mut smaller = Vec::new();
        for half in halves {
            let orders = half.count(self.client, "created_at").await?;
            smaller.extend((orders > 0).then(|| BulkWindow::new(half.since, half.until, orders)));
        }
        Ok(import.windows().replace(window, &smaller)?)
    }
}

/// The operation of a window is of no use: another is to be started.
fn unask(window: &BulkWindow, import: &mut Import<'_>) -> Result<(), Failure> {
    let unasked = BulkWindow::new(window.since, window.until, window.orders);
    Ok(import.windows().replace(window, &[unasked])?)
}
