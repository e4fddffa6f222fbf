//! Spans of a load: one for each trace that a batch holds entries of.
//!
//! Owns names and attributes (OpenTelemetry's conventions for messaging). Entries of one append
//! carry one context and share a span, so that there are never more spans than there were requests.
//! Invariants: an entry whose trace is not recorded costs one look at its context; a fault of the
//! surroundings, which is waited out, is no span.

use std::collections::HashMap;
use std::fmt::Display;

use super::HandlerError;
use crate::event::EventRecord;
use crate::retryability::Retryability;
use crate::spans::{self, Span, SpanKind, SpanStart};
use crate::stream::DeadLetter;
use crate::traceparent::TraceParent;

/// Entries of one trace among those of a load.
struct TraceShare<'a> {
    first: &'a EventRecord<'a>,
    entries: u64,
}

/// A load ended: with all events taken, or with the only one at fault.
pub(super) fn loaded(
    began: SpanStart,
    consumer: &str,
    records: &[EventRecord<'_>],
    handled: Result<(), &HandlerError>,
) {
    let fault = match handled {
        Ok(()) => None,
        Err(fault) if records.len() == 1 && fault.retryability != Retryability::Transient => Some(fault),
        Err(_) => return,
    };
    if spans::names().is_none() {
        return;
    }
    let mut traces: HashMap<TraceParent, TraceShare<'_>> = HashMap::new();
    for record in records {
        let context = record.provenance.traceparent.as_ref();
        if let Some(context) = context.and_then(|text| recorded(text.as_str())) {
            let share = traces.entry(context).or_insert(TraceShare {
                first: record,
                entries: 0,
            });
            share.entries += 1;
        }
    }
    for (context, share) in traces {
        let mut span = consume("process", began, consumer, context);
        span.set_number("messaging.batch.message_count", records.len() as u64);
        if share.entries == 1 {
            span.set_attribute("messaging.message.id", &share.first.stream_id);
            span.set_attribute("orderstream.event_type", &share.first.event.event_type);
            span.set_attribute("orderstream.event_id", &share.first.event.event_id);
        } else {
            span.set_number("orderstream.entries", share.entries);
        }
        if let Some(fault) = fault {
            set_error(&mut span, fault.retryability.name(), fault);
        }
    }
}

/// An entry went to the dead letters.
pub(super) fn dead_lettered(began: SpanStart, letter: &DeadLetter) {
    let field = letter.entry.fields.get("traceparent");
    let text = field.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let Some(context) = text.and_then(recorded) else { return };
    let mut span = consume("settle", began, &letter.consumer, context);
    span.set_attribute("messaging.message.id", letter.entry.id);
    span.set_number("orderstream.attempts", letter.attempts.into());
    set_error(&mut span, "dead_letter", &letter.error);
}

/// A context whose trace is recorded so far.
fn recorded(traceparent: &str) -> Option<TraceParent> {
    TraceParent::parse(traceparent).filter(|context| context.sampled)
}

fn consume(operation: &'static str, began: SpanStart, consumer: &str, parent: TraceParent) -> Span {
    let Some(names) = spans::names() else {
        return Span::none();
    };
    let name = || format!("{operation} {}", names.stream).into();
    let mut span = Span::since(began, name, SpanKind::Consumer, Some(parent));
    span.set_attribute("messaging.system", names.system);
    span.set_attribute("messaging.destination.name", &names.stream);
    span.set_attribute("messaging.operation.name", operation);
    span.set_attribute("messaging.operation.type", operation);
    span.set_attribute("messaging.consumer.group.name", &names.group);
    span.set_attribute("messaging.client.id", consumer);
    span
}

fn set_error(span: &mut Span, kind: &str, reason: impl Display) {
    span.set_attribute("error.type", kind);
    span.set_error(reason);
}
