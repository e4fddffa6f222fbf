//! One connection after another: plan, catalog, slot and checkpoint are compared, then changes are
//! streamed until that ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use uuid::Uuid;

use super::appender::CheckpointAppender;
use super::batch::BatchReader;
use super::changes::{Changes, WalPosition};
use super::plan::{InvalidPlan, Plan};
use super::receiver::{MESSAGES, receive};
use super::record::{Record, ResyncRequest, Walk};
use super::source::{self, Catalog, OrderReader, SourceSession};
use super::standing::{SourceServer, Standing, TimelineHistory, standing};
use super::status::{CaptureState, CaptureStatus};
use super::tables::VerifiedTables;
use super::worker::{End, Worker};
use crate::config::CaptureConfig;
use crate::metrics::{GapReason, Metrics};
use crate::postgres::{InvalidUrl, Lsn, Replication, SourceError, Target};
use crate::stream::{Checkpoint, CheckpointedAppend, CheckpointedWriter, Stream, StreamError};
use crate::worker::OutageLog;

/// How often a standby tries to take over.
const STANDBY_PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked whether an operator has mended something, if SIGHUP does not say so.
const STOPPED_PAUSE: Duration = Duration::from_secs(15);

/// Why nothing can be captured as it is configured; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The mapping file.
    #[error(transparent)]
    Plan(#[from] InvalidPlan),
    /// The source, its URL or its rights.
    #[error("capture: {0}")]
    Source(String),
    /// The source does not answer.
    #[error("capture: {0}")]
    Unavailable(String),
    /// The stream, which has the checkpoint.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl From<SourceError> for CaptureError {
    fn from(error: SourceError) -> Self {
        if error.needs_operator() {
            Self::Source(error.to_string())
        } else {
            Self::Unavailable(error.to_string())
        }
    }
}

impl From<InvalidPlan> for SourceError {
    fn from(error: InvalidPlan) -> Self {
        Self::Misconfigured(error.to_string())
    }
}

impl From<InvalidUrl> for SourceError {
    fn from(error: InvalidUrl) -> Self {
        Self::Misconfigured(format!("ORDERSTREAM_CAPTURE_DATABASE_URL or _READ_URL: {error}"))
    }
}

/// A capture of one source into a stream.
pub struct Capture {
    pub(super) config: CaptureConfig,
    stream: Arc<dyn Stream>,
    pub(super) status: CaptureStatus,
    /// Tells this process from others in the checkpoint.
    owner: String,
    pub(super) reload: Arc<Notify>,
}

impl Capture {
    /// Connects when it is run.
    #[must_use]
    pub fn new(config: CaptureConfig, stream: Arc<dyn Stream>, metrics: &Metrics, reload: Arc<Notify>) -> Self {
        Self {
            config,
            stream,
            status: CaptureStatus::new(metrics),
            owner: Uuid::new_v4().to_string(),
            reload,
        }
    }

    /// Its figures.
    #[must_use]
    pub fn status(&self) -> CaptureStatus {
        self.status.clone()
    }

    /// Whether it can work as it is configured, as far as the source answers; makes the publication
    /// where the role may.
    ///
    /// # Errors
    /// What an operator must mend.
    pub async fn verify(&self) -> Result<(), CaptureError> {
        let checked = async {
            self.check(&Plan::load(&self.config.file)?).await?;
            Replication::connect(&target(&self.config)?, self.config.connect_timeout).await?;
            Ok(())
        };
        match checked.await {
            // One that is away is waited for.
            Ok(()) | Err(CaptureError::Unavailable(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Captures until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut outage = OutageLog::of("capturing the source's changes");
        // What it has captured by.
        let mut known = None;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let end = match self.connection(&mut known, &stop).await {
                // There is another mapping, or it is stopped.
                Ok(()) => {
                    outage.over();
                    continue;
                }
                Err(end) => end,
            };
            let mut reads_again = false;
            self.status.metrics.reconnects.inc();
            if began.elapsed() > STANDBY_PAUSE {
                outage.over();
            }
            let pause = match end {
                End::Fenced => {
                    info!("another process has taken over the capture");
                    self.status.is(CaptureState::Standby);
                    STANDBY_PAUSE
                }
                // The slot is active.
                End::Source(error) if error.is_code("55006") => {
                    if self.status.report().state != CaptureState::Standby {
                        info!("another process captures this source; this one takes over when that ends");
                        self.status.is(CaptureState::Standby);
                    }
                    STANDBY_PAUSE
                }
                End::Source(error) if error.needs_operator() => {
                    let text = error.to_string();
                    if self.status.stopped(&text) {
                        error!("capture stopped: {text}");
                    }
                    reads_again = true;
                    STOPPED_PAUSE
                }
                End::Source(error) => self.failed(&mut outage, &error),
                End::Stream(error) => self.failed(&mut outage, &error),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.reload.notified() => reads_again = true,
                () = tokio::time::sleep(pause) => {}
            }
            if reads_again {
                stop.run_until_cancelled(self.read_again(&mut known)).await;
            }
        }
    }

    fn failed(&self, outage: &mut OutageLog, error: &(impl std::fmt::Display + ?Sized)) -> Duration {
        self.status.is(CaptureState::Connecting);
        outage.failed(error)
    }

    /// Connects, and streams by the known mapping, else by that of the file, until that fails, is
    /// stopped, or another mapping is there.
    async fn connection(&self, known: &mut Option<Arc<Plan>>, stop: &CancellationToken) -> Result<(), End> {
        let mut connection = Replication::connect(&target(&self.config)?, self.config.connect_timeout).await?;
        let plan = match known {
            Some(plan) => Arc::clone(plan),
            None => Arc::new(Plan::load(&self.config.file).map_err(SourceError::from)?),
        };
        let (mut worker, gap) = self.prepare(Arc::clone(&plan), &mut connection).await?;
        let slot = worker.batches.plan.slot();
        let position = Lsn::from(worker.appender.record.position.lsn);
        let command = format!(
            "START_REPLICATION SLOT {slot} LOGICAL {position} (proto_version '1', publication_names '\"{slot}\"', messages 'true')"
        );
        connection.start(&command).await?;
        // Only now it is certain that no other process streams.
        let reads = &mut worker.batches;
        reads.reader.rehearse(&plan, &reads.catalog).await?;
        worker.take_over(gap).await?;
        *known = Some(plan);
        info!(source = worker.batches.plan.source, %position, "capturing changes");
        let (sender, mut messages) = mpsc::channel(MESSAGES);
        let mut confirmed = worker.confirmed.subscribe();
        let ended = tokio::select! {
            ended = worker.run(&mut messages, stop) => ended,
            error = receive(&mut connection, &sender, &mut confirmed) => Err(End::Source(error)),
            // It holds for what comes: the connection begins anew with it.
            () = self.renewed(known) => Ok(()),
        };
        if ended.is_ok() {
            let stored = Lsn::from(*worker.confirmed.borrow());
            let _ = connection.confirm(stored, stored).await;
            connection.finish().await;
        }
        ended
    }

    /// Looks at everything that decides where to begin; makes the slot where it is missing or lost.
    async fn prepare(
        &self,
        plan: Arc<Plan>,
        connection: &mut Replication,
    ) -> Result<(Worker<'_>, Option<GapReason>), End> {
        let within = self.config.connect_timeout;
        let target = target(&self.config)?;
        let session = SourceSession::connect(&target, within).await?;
        // Also where the capture cannot begin: meanwhile the slot keeps WAL.
        self.status
            .update(|figures| figures.report.source.clone_from(&plan.source));
        let held = source::slot(&session, &plan.slot()).await?;
        self.status.slot(held.unwrap_or_default(), None);
        let catalog = source::inspect(&session, &plan).await?;
        let identity = connection.identify().await?;
        let history = connection.timeline_history(identity.timeline).await?;
        let mut writer = self.stream.checkpointed(&plan.source);
        let mut checkpoint = writer.read().await?;
        let server = SourceServer {
            system: identity.system,
            history: TimelineHistory::parse(identity.timeline, &history),
            wal_end: identity.wal_end.into(),
            published: source::make_publication(&session, &plan).await?,
        };
        let verified = VerifiedTables {
            tables: catalog.tables.clone(),
            wal_end: server.wal_end,
        };
        let known = Record::parse(&checkpoint.record)?;
        // Read after the record: what another process does in between is noticed by the record's version.
        let held = source::slot(&session, &plan.slot()).await?;
        let standing = standing(known.as_ref(), held.as_ref(), &server);
        let mut record = Record {
            published: server.published.clone(),
            owner: self.owner.clone(),
            ..known.unwrap_or_else(|| Record {
                system: server.system.clone(),
                plan: plan.digest.clone(),
                request: checkpoint.request.clone(),
                ..Record::default()
            })
        };
        if standing == (Standing::First { from: None }) {
            // So that a slot which is found without more is known as this one.
            record.is_new = true;
            checkpoint.version = note(&mut *writer, checkpoint.version, &record).await?;
        }
        let gap = self.place(&plan, &session, standing, &mut record, connection).await?;
        let worker = Worker {
            changes: Changes::new(Arc::clone(&plan), verified, record.position),
            batches: BatchReader {
                reader: reader(&self.config, &plan, &catalog)?,
                plan,
                catalog,
                history: server.history,
                status: &self.status,
                resyncs_on_gap: self.config.resyncs_on_gap,
            },
            asked: asked(&checkpoint, &record),
            appender: CheckpointAppender::new(writer, checkpoint.version, record, self.config.ack_delay),
            config: &self.config,
            status: &self.status,
            stream: &*self.stream,
            confirmed: watch::Sender::new(0),
            looked: Instant::now(),
            session,
            target,
            probed: None,
            canary_sent: None,
            next_page: Instant::now(),
            page_size: self.config.batch,
        };
        Ok((worker, gap))
    }

    /// Sets the position from which is streamed; makes the slot where that is to be done.
    async fn place(
        &self,
        plan: &Plan,
        session: &SourceSession,
        standing: Standing,
        record: &mut Record,
        connection: &mut Replication,
    ) -> Result<Option<GapReason>, End> {
        let slot = plan.slot();
        let mut gap = None;
        match standing {
            Standing::OtherCluster => {
                let what = "the checkpoint beside the stream is of another PostgreSQL cluster: a URL points to the wrong \
                            place, or the cluster was upgraded or moved; in that case run `orderstream capture adopt`";
                return Err(SourceError::Misconfigured(what.to_owned()).into());
            }
            Standing::Streaming => {}
            Standing::First { from } => {
                let from = match from {
                    Some(from) => from,
                    None => self.create_slot(connection, &slot).await?,
                };
                record.position = WalPosition::at(from);
                if self.config.takes_snapshot && plan.orders.is_some() {
                    record.walk = Some(Walk::new("snapshot"));
                }
                info!(slot, "created the replication slot");
            }
            Standing::Gap { reason, from } => {
                let from = match from {
                    Some(from) => from,
                    None => {
                        source::drop_slot(session, &slot).await?;
                        self.create_slot(connection, &slot).await?
                    }
                };
                record.position = WalPosition::at(from);
                gap = Some(reason);
            }
        }
        record.is_new = false;
        Ok(gap)
    }

    async fn create_slot(&self, connection: &mut Replication, slot: &str) -> Result<u64, End> {
        let options = match connection.server_version() {
            17.. => "(SNAPSHOT 'nothing', FAILOVER true)",
            _ => "NOEXPORT_SNAPSHOT",
        };
        let command = format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput {options}");
        let rows = connection.query(&command).await?;
        let consistent = rows.first().and_then(|row| row.get(1)?.as_ref()?.parse::<Lsn>().ok());
        let missing = || SourceError::Unreachable("the server did not say where the slot begins".to_owned());
        Ok(consistent.ok_or_else(missing)?.into())
    }
}

/// Stores a record without entries; answers its version.
async fn note(writer: &mut dyn CheckpointedWriter, version: u64, record: &Record) -> Result<u64, End> {
    let json = serde_json::to_string(record).unwrap_or_default();
    match writer.append(&[], version, &json, 100).await? {
        CheckpointedAppend::Stored => Ok(version + 1),
        CheckpointedAppend::Moved | CheckpointedAppend::Full(_) => Err(End::Fenced),
    }
}

/// Keys of the partial walk under way; none where another request took the place of its own, which
/// ends it.
fn asked(checkpoint: &Checkpoint, record: &Record) -> Vec<String> {
    let request = serde_json::from_str::<ResyncRequest>(&checkpoint.request).ok();
    let own = request.filter(|request| record.walk.as_ref().is_some_and(|walk| walk.id == request.id));
    own.and_then(|request| request.keys).unwrap_or_default()
}

/// What reads orders: from the source's server, or from where `_READ_URL` leads.
pub(super) fn reader(config: &CaptureConfig, plan: &Plan, catalog: &Catalog) -> Result<OrderReader, SourceError> {
    let url = config.read_url.as_ref().unwrap_or(&config.url);
    let target = Target::parse(url.expose_secret(), config.connect_timeout)?;
    Ok(OrderReader::new(target, config.connect_timeout, plan, catalog.key))
}

/// The source's server.
pub(super) fn target(config: &CaptureConfig) -> Result<Target, SourceError> {
    Ok(Target::parse(config.url.expose_secret(), config.connect_timeout)?)
}
