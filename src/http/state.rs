//! What the handlers of each listener share.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

use super::body_forms::BodyForms;
use super::failed_tokens::FailedTokens;
use super::health::Probes;
use super::token::Tokens;
use crate::config::{IntakeConfig, PublicConfig, SettingsReport};
use crate::ingest::{Admission, Appender, QuarantineLog, ShopBinding};
use crate::live::Live;
use crate::metrics::{Metrics, Outcomes, Route, SignatureCounters};
use crate::nodes::Nodes;
use crate::operations::Operations;
use crate::shopify::Keyring;

/// State of the public listener's handlers; a cheap clone.
#[derive(Debug, Clone)]
pub struct PublicState {
    pub(super) appender: Appender,
    pub(super) admission: Admission,
    pub(super) probes: Probes,
    pub(super) credentials: PublicCredentials,
    pub(super) intake: Arc<IntakeConfig>,
    /// From the end of a head to the last byte of its body.
    pub(super) body_timeout: Duration,
    pub(super) signatures: SignatureCounters,
    /// Deliveries of Shopify's Events.
    pub(super) events_deliveries: Counter,
    pub(super) body_forms: Arc<BodyForms>,
    pub(super) failed_tokens: FailedTokens,
    pub(super) webhook_outcomes: Outcomes,
    pub(super) batch_outcomes: Outcomes,
    pub(super) quarantine_log: Arc<QuarantineLog>,
    /// `None`: a body is of the shop that its headers name.
    pub(super) shop_binding: Option<Arc<ShopBinding>>,
}

/// Credentials of senders, replaced as a whole when the secrets are read again; a cheap clone.
#[derive(Debug, Clone, Default)]
pub struct PublicCredentials {
    /// Verifies webhooks; `None` refuses every one.
    pub keyring: Arc<ArcSwapOption<Keyring>>,
    /// The bearer tokens of `/events/batch`.
    pub tokens: Arc<ArcSwap<Tokens>>,
}

impl PublicState {
    /// The outcomes of requests count in the health of `probes`.
    #[must_use]
    pub fn new(
        appender: Appender,
        probes: Probes,
        credentials: PublicCredentials,
        intake: IntakeConfig,
        public: &PublicConfig,
        metrics: &Metrics,
    ) -> Self {
        let body_forms = Arc::new(BodyForms::new(
            probes.health.body_forms(),
            metrics.new_body_members.clone(),
        ));
        Self {
            appender,
            body_forms,
            admission: Admission::new(intake.bytes_in_flight, intake.body_limit, metrics.body_bytes.clone()),
            probes,
            credentials,
            intake: Arc::new(intake),
            body_timeout: public.body_timeout,
            signatures: metrics.signature_counters(),
            events_deliveries: metrics.events_deliveries.clone(),
            failed_tokens: FailedTokens::default(),
            webhook_outcomes: metrics.outcomes(Route::Webhook),
            batch_outcomes: metrics.outcomes(Route::Batch),
            quarantine_log: Arc::default(),
            shop_binding: None,
        }
    }

    /// The same, holding shops to the numbers that their orders name.
    #[must_use]
    pub fn with_shop_binding(self, binding: ShopBinding) -> Self {
        Self {
            shop_binding: Some(Arc::new(binding)),
            ..self
        }
    }

    /// The role that logs how many further deliveries were quarantined.
    pub fn log_quarantines(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.quarantine_log).run(stop)
    }
}

/// State of the private listener's handlers; a cheap clone.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// Same as the public listener's.
    pub probes: Probes,
    /// Shown at `/metrics`.
    pub metrics: Metrics,
    /// The bearer tokens of `/api`; empty refuses every request.
    pub tokens: Arc<ArcSwap<Tokens>>,
    /// Host names that the listener answers for, besides IP addresses and `localhost`.
    pub hosts: Arc<[String]>,
    /// Behind `/api`.
    pub operations: Operations,
    /// Behind `/api/live`.
    pub live: Live,
    /// Behind `/api/nodes`.
    pub nodes: Nodes,
    /// Behind `/api/settings`.
    pub settings: Arc<SettingsReport>,
    /// Behind `/api/secrets`: the public listener's keyring; empty where there is none.
    pub keyring: Arc<ArcSwapOption<Keyring>>,
}
