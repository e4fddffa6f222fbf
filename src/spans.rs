//! OpenTelemetry spans of deliveries and loads.
//!
//! A span is started with a parent that came by wire, given attributes (`http/spans.rs`,
//! `worker/spans.rs`) and exported when dropped, by a thread of its own behind a bounded queue that
//! drops what does not fit. Without the feature `otel`, without a collector, or where the sampler
//! leaves a span out, a `Span` is empty and no attribute is formatted.

#[cfg(not(feature = "otel"))]
mod none;
#[cfg(feature = "otel")]
mod otlp;

use std::borrow::Cow;
use std::fmt::Display;
use std::time::{Duration, SystemTime};

#[cfg(not(feature = "otel"))]
use self::none as exporter;
#[cfg(feature = "otel")]
use self::otlp as exporter;
use crate::config::Config;
use crate::traceparent::TraceParent;

/// How long a process that ends waits for a collector that does not answer.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// The kind of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// It answers a request.
    Server,
    /// It puts something into a log.
    Producer,
    /// It works on what came from a log.
    Consumer,
}

/// Names of the logs and of their readers in spans.
#[derive(Debug)]
pub struct Names {
    /// `redis` or `sqlite`.
    pub system: &'static str,
    /// The stream.
    pub stream: String,
    /// The dead letters.
    pub dead_letters: String,
    /// The group.
    pub group: String,
}

/// Starts the exporter where `config` asks for one. A second call changes nothing.
pub fn start(config: &Config) {
    if !config.exports_spans {
        return;
    }
    let names = Names {
        system: if config.redis.is_some() { "redis" } else { "sqlite" },
        stream: config.stream.name.clone(),
        dead_letters: config.stream.dead_letters.clone(),
        group: config.stream.group.clone(),
    };
    exporter::start(names, &config.worker.consumer);
}

/// Hands what is queued to the collector and ends the exporter; waits no longer than three seconds.
pub async fn finish() {
    exporter::finish(FLUSH_LIMIT).await;
}

/// The names in spans; `None` where there are no spans.
#[must_use]
pub fn names() -> Option<&'static Names> {
    exporter::names()
}

/// A point in time where a span may begin; nothing where there are no spans.
#[derive(Debug, Clone, Copy)]
pub struct SpanStart(Option<SystemTime>);

impl SpanStart {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(names().map(|_| SystemTime::now()))
    }
}

/// One span, or none. It ends when it is dropped.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Span(Option<exporter::Recording>);

impl Span {
    /// No span.
    pub fn none() -> Self {
        Self(None)
    }

    /// One that began before. Without a parent it is the first of a trace, if the sampler wants
    /// one.
    pub fn since(
        began: SpanStart,
        name: impl FnOnce() -> Cow<'static, str>,
        kind: SpanKind,
        parent: Option<TraceParent>,
    ) -> Self {
        let SpanStart(Some(began)) = began else {
            return Self(None);
        };
        Self(exporter::Recording::start(name(), kind, parent, true, began))
    }

    /// One below this one, which begins now; none below none.
    pub fn below(&self, name: impl FnOnce() -> Cow<'static, str>, kind: SpanKind) -> Self {
        let recording = self.0.as_ref();
        Self(recording.and_then(|parent| {
            exporter::Recording::start(name(), kind, Some(parent.context()), false, SystemTime::now())
        }))
    }

    /// The context that a child in another process gets as its parent.
    #[must_use]
    pub fn context(&self) -> Option<TraceParent> {
        self.0.as_ref().map(exporter::Recording::context)
    }

    /// Adds an attribute. Names nothing personal and no secret.
    pub fn set_attribute(&mut self, name: &'static str, what: impl Display) {
        if let Some(recording) = &mut self.0 {
            recording.set_attribute(name, what.to_string());
        }
    }

    /// Adds a number.
    pub fn set_number(&mut self, name: &'static str, number: u64) {
        if let Some(recording) = &mut self.0 {
            recording.set_number(name, number);
        }
    }

    /// Sets its status to error. The reason names no content.
    pub fn set_error(&mut self, reason: impl Display) {
        if let Some(recording) = &mut self.0 {
            recording.set_error(reason.to_string());
        }
    }
}
