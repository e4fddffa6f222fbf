//! This process' node record: its identity, and figures collected from the parts that have them.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use time::OffsetDateTime;

use super::listeners::Addresses;
use super::state::App;
use crate::capture::CaptureStatus;
use crate::health::{Notice, WarehouseProbe};
use crate::ingest::SpoolFallback;
use crate::metrics::{Metrics, Outcome, Outcomes, Route};
use crate::nodes::{Figures, Heartbeater, Intake, Loading, NodeRecord, Role, SpoolFigures, Totals};
use crate::operations::counted_secrets;
use crate::shopify::Keyring;
use crate::worker::Workers;

/// Most secrets in a record, which every node reads; each of many shops may have some.
const SECRETS_LISTED: usize = 50;

impl App {
    /// The role that writes the record of this process.
    pub(super) fn heartbeater(&self, at: Addresses) -> Heartbeater {
        let sources = FigureSources {
            webhooks: self.metrics.outcomes(Route::Webhook),
            batches: self.metrics.outcomes(Route::Batch),
            metrics: self.metrics.clone(),
            keyring: Arc::clone(&self.credentials.public.keyring),
            fallback: self.storage.fallback.clone(),
            ingests: self.purpose.ingests(),
            workers: self.workers.clone(),
            warehouse: self.warehouse.clone(),
            subscriptions: self.subscriptions.clone(),
            reconcile: self.reconcile.clone(),
            capture: self.capture.clone(),
        };
        Heartbeater {
            stream: self.stream(),
            nodes: self.nodes.clone(),
            identity: self.identity(at),
            figures: Box::new(move || sources.figures()),
        }
    }

    fn identity(&self, at: Addresses) -> NodeRecord {
        let host = self.config.host.clone();
        let address = |addr: Option<SocketAddr>| addr.map(|addr| addr.to_string());
        let consumers = self.workers.iter().flat_map(|workers| workers.names());
        NodeRecord {
            id: format!("{host}-{}", hex::encode(rand::random::<[u8; 4]>())),
            role: Role::of_command(self.purpose.name()),
            host,
            pid: Some(std::process::id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("ORDERSTREAM_COMMIT").map(str::to_owned),
            started_at: Some(OffsetDateTime::now_utc()),
            listen_addr: address(at.public),
            admin_addr: address(at.private),
            consumers: consumers.map(str::to_owned).collect(),
            intake: None,
            loading: None,
            capture: None,
            captured_per_second: None,
        }
    }
}

/// Where the figures come from.
struct FigureSources {
    metrics: Metrics,
    webhooks: Outcomes,
    batches: Outcomes,
    keyring: Arc<ArcSwapOption<Keyring>>,
    fallback: Option<SpoolFallback>,
    ingests: bool,
    workers: Option<Arc<Workers>>,
    warehouse: Option<WarehouseProbe>,
    subscriptions: Notice,
    reconcile: Notice,
    capture: Option<CaptureStatus>,
}

impl FigureSources {
    fn figures(&self) -> Figures {
        let unauthorized = self.answered(Outcome::Unauthorized);
        let capture = self.capture.as_ref().map(CaptureStatus::report);
        Figures {
            intake: self.ingests.then(|| self.intake(unauthorized)),
            loading: self.workers.as_ref().map(|workers| self.loading(workers)),
            totals: Totals {
                accepted: self.answered(Outcome::Accepted) + self.answered(Outcome::Spooled),
                unauthorized,
                loaded: self.metrics.events_loaded.get(),
                captured: capture.as_ref().map_or(0, |capture| capture.events),
                delays: self.metrics.commit_delay_seconds.counts(),
            },
            capture: capture.and_then(|capture| serde_json::to_value(capture).ok()),
        }
    }

    fn answered(&self, outcome: Outcome) -> u64 {
        self.webhooks.counted(outcome) + self.batches.counted(outcome)
    }

    fn intake(&self, unauthorized: u64) -> Intake {
        let outcome = |outcome: Outcome| (outcome.name().to_owned(), self.answered(outcome));
        let keyring = self.keyring.load_full();
        let mut secrets = keyring.as_deref().map(counted_secrets).unwrap_or_default();
        let secrets_omitted = secrets.len().saturating_sub(SECRETS_LISTED) as u64;
        secrets.truncate(SECRETS_LISTED);
        Intake {
            unauthorized: Some(unauthorized),
            outcomes: Outcome::ALL.into_iter().map(outcome).collect(),
            secrets,
            secrets_omitted,
            spool: self.fallback.as_ref().map(spool),
            ..Intake::default()
        }
    }

    fn loading(&self, workers: &Workers) -> Loading {
        Loading {
            dead_lettered: Some(self.metrics.dead_letters.get()),
            warehouse: self.warehouse.as_ref().map(WarehouseProbe::state),
            warehouse_loss: self.warehouse.as_ref().and_then(WarehouseProbe::lost),
            privacy_requests: self.warehouse.as_ref().and_then(WarehouseProbe::waiting_requests),
            subscriptions: self.subscriptions.text(),
            reconcile: self.reconcile.text(),
            batch: workers.batch_under_way(),
            ..Loading::default()
        }
    }
}

fn spool(fallback: &SpoolFallback) -> SpoolFigures {
    let report = fallback.spool.report();
    let breaker = if fallback.breaker.is_open() { "open" } else { "closed" };
    SpoolFigures {
        depth: Some(report.depth),
        bytes: Some(report.bytes),
        limit: Some(report.limit),
        oldest_seconds: report.oldest.map(|age| age.as_secs_f64()),
        lost: report.lost,
        takes_writes: Some(report.takes_writes),
        breaker: Some(breaker.to_owned()),
    }
}
