//! Spans over OTLP/HTTP, by OpenTelemetry's own SDK.
//!
//! Owns the exporter. Endpoint, headers, sampler, limits and resource are the SDK's to read from
//! the standard `OTEL_*` variables. Invariants: a collector that is away is logged once, and once
//! more when it is back; what does not fit the queue (`OTEL_BSP_MAX_QUEUE_SIZE`, 2048 spans) is
//! dropped, and the SDK says so once and counts it at the end.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, trace};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData};

use super::{Names, SpanKind};
use crate::traceparent::TraceParent;

static STARTED: OnceLock<Started> = OnceLock::new();

#[derive(Debug)]
struct Started {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    names: Names,
}

/// `instance` is what the group calls this process. A collector that cannot even be configured is a
/// warning: no webhook is refused for it.
pub(super) fn start(names: Names, instance: &str) {
    let exporter = match SpanExporter::builder().with_http().build() {
        Ok(exporter) => exporter,
        // The error may quote the endpoint, and that a key.
        Err(_) => {
            tracing::warn!(
                "there are no spans: OTEL_EXPORTER_OTLP_* name an endpoint that is no URL, or a compression, which this program \
                 does not know"
            );
            return;
        }
    };
    let provider = SdkTracerProvider::builder()
        .with_resource(resource(instance))
        .with_batch_exporter(Patient::new(exporter))
        .build();
    let tracer = provider.tracer("orderstream");
    let _ = STARTED.set(Started {
        provider,
        tracer,
        names,
    });
    tracing::info!("spans go to the collector of OTEL_EXPORTER_OTLP_ENDPOINT");
}

/// Attributes of the resource; `OTEL_*` variables override ours.
fn resource(instance: &str) -> Resource {
    let ours = Resource::builder_empty().with_attributes([
        KeyValue::new("service.name", "orderstream"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.to_owned()),
    ]);
    let theirs = ours.with_detector(Box::new(EnvResourceDetector::new()));
    match std::env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => theirs.with_service_name(name).build(),
        Ok(_) | Err(_) => theirs.build(),
    }
}

pub(super) async fn finish(limit: Duration) {
    let Some(started) = STARTED.get() else { return };
    let flush = tokio::task::spawn_blocking(move || started.provider.shutdown_with_timeout(limit));
    // The SDK's own limit does not hold while an export is under way.
    match tokio::time::timeout(limit, flush).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "spans were lost at the end"),
        Ok(Err(_)) | Err(_) => tracing::warn!(?limit, "spans were lost at the end: the collector does not take them"),
    }
}

pub(super) fn names() -> Option<&'static Names> {
    STARTED.get().map(|started| &started.names)
}

/// A span that is recorded.
#[derive(Debug)]
pub(super) struct Recording(opentelemetry_sdk::trace::Span);

impl Recording {
    /// `None` where the sampler leaves it out.
    pub(super) fn start(
        name: Cow<'static, str>,
        kind: SpanKind,
        parent: Option<TraceParent>,
        is_remote: bool,
        began: SystemTime,
    ) -> Option<Self> {
        let tracer = &STARTED.get()?.tracer;
        let context = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(SpanContext::new(
                TraceId::from(parent.trace_id),
                SpanId::from(parent.span_id),
                TraceFlags::default().with_sampled(parent.sampled),
                is_remote,
                TraceState::NONE,
            ))
        });
        let builder = tracer.span_builder(name).with_kind(match kind {
            SpanKind::Server => trace::SpanKind::Server,
            SpanKind::Producer => trace::SpanKind::Producer,
            SpanKind::Consumer => trace::SpanKind::Consumer,
        });
        let span = tracer.build_with_context(builder.with_start_time(began), &context);
        span.is_recording().then_some(Self(span))
    }

    pub(super) fn context(&self) -> TraceParent {
        let context = self.0.span_context();
        TraceParent {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            sampled: context.is_sampled(),
        }
    }

    pub(super) fn set_attribute(&mut self, name: &'static str, what: String) {
        self.0.set_attribute(KeyValue::new(name, what));
    }

    pub(super) fn set_number(&mut self, name: &'static str, number: u64) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.0.set_attribute(KeyValue::new(name, number));
    }

    pub(super) fn set_error(&mut self, reason: String) {
        self.0.set_status(Status::error(reason));
    }
}

/// An exporter that does not repeat itself: the SDK logs each export that fails, every few seconds.
#[derive(Debug)]
struct Patient {
    exporter: SpanExporter,
    is_away: AtomicBool,
}

impl Patient {
    fn new(exporter: SpanExporter) -> Self {
        Self {
            exporter,
            is_away: AtomicBool::new(false),
        }
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Patient {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        let was_away = self.is_away.swap(exported.is_err(), Ordering::Relaxed);
        match exported {
            Ok(()) if was_away => tracing::info!("the collector takes spans again"),
            Err(error) if !was_away => {
                tracing::warn!(%error, spans, "the collector does not take spans; these and further ones are lost until it does");
            }
            Ok(())
            | Err(OTelSdkError::AlreadyShutdown | OTelSdkError::Timeout(_) | OTelSdkError::InternalFailure(_)) => {}
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
