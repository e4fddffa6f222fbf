//! The exporter without the feature `otel`: a recording cannot exist, so the compiler drops all
//! calls.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::{Names, SpanKind};
use crate::traceparent::TraceParent;

/// A type without values.
#[derive(Debug)]
pub(super) enum Recording {}

pub(super) fn start(_: Names, _: &str) {}

pub(super) async fn finish(_: Duration) {}

pub(super) fn names() -> Option<&'static Names> {
    None
}

impl Recording {
    pub(super) fn start(
        _: Cow<'static, str>,
        _: SpanKind,
        _: Option<TraceParent>,
        _: bool,
        _: SystemTime,
    ) -> Option<Self> {
        None
    }

    pub(super) fn context(&self) -> TraceParent {
        match *self {}
    }

    pub(super) fn set_attribute(&mut self, _: &'static str, _: String) {
        match *self {}
    }

    pub(super) fn set_number(&mut self, _: &'static str, _: u64) {
        match *self {}
    }

    pub(super) fn set_error(&mut self, _: String) {
        match *self {}
    }
}
