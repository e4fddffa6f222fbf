//! `replay` and `rebuild`.

use std::num::NonZeroU32;

use clap::Args;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

use super::backend::{Backend, Needs};
use super::output::{OutputArgs, progress};
use super::stepper::{all, confirm};
use super::{Exit, Failure};
use crate::config::settings::GROUP;
use crate::config::{Config, Inputs, Purpose};
use crate::operations::{HistoryStep, MissingRange, Operation, RebuildRequest, Remaining, ReplayRequest};
use crate::stream::StreamId;

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream replay --from 2026-01-31T09:00:00Z --dry-run   count what is retained since then
  orderstream replay --from 2026-01-31 --to 2026-01-31       one day, UTC
  orderstream replay --all --yes                             all that is retained, without confirmation
  orderstream replay --all --group analytics --rate 50       for another group: its consumers claim what is stale

Asks for confirmation; without a terminal, --yes is needed. Entries become pending again, as if their consumer had died;
nothing is copied. What the stream no longer has is applied again from order_events. A minute or longer of which neither
has anything is reported, as lost or a quiet time; from an hour on, the exit code is 69.")]
pub(super) struct ReplayArgs {
    /// The oldest entry: a time (RFC 3339, or a day in UTC) or an id [default: the oldest that is
    /// retained]
    #[arg(long, value_parser = point)]
    from: Option<Point>,
    /// The newest entry, likewise [default: the newest there is]
    #[arg(long, value_parser = point)]
    to: Option<Point>,
    /// All that is retained
    #[arg(long, conflicts_with_all = ["from", "to"])]
    all: bool,
    /// Entries a second [default: 500]
    #[arg(long)]
    rate: Option<NonZeroU32>,
    /// Change nothing, print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// A place in the stream: the first and the last id that the text may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    first: StreamId,
    last: StreamId,
}

fn point(text: &str) -> Result<Point, String> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(between(at, at));
    }
    let day = time::macros::format_description!("[year]-[month]-[day]");
    if let Ok(day) = Date::parse(text, day) {
        let begin = PrimitiveDateTime::new(day, Time::MIDNIGHT).assume_utc();
        return Ok(between(
            begin,
            begin + time::Duration::DAY - time::Duration::MILLISECOND,
        ));
    }
    match (text.contains('-'), text.parse()) {
        (true, Ok(id)) => Ok(Point { first: id, last: id }),
        _ => Err("not a time (2026-01-31T09:00:00Z), a day (2026-01-31) or an id (1767225600000-0)".to_owned()),
    }
}

fn between(first: OffsetDateTime, last: OffsetDateTime) -> Point {
    let ms = |at: OffsetDateTime| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    Point {
        first: StreamId::new(ms(first), 0),
        last: StreamId::new(ms(last), u64::MAX),
    }
}

impl ReplayArgs {
    /// Asks before anything is changed.
    ///
    /// # Errors
    /// No range is given, there is no terminal to ask on, or the answer is no.
    fn confirm(&self, group: Option<&str>) -> Result<(), Failure> {
        if self.dry_run {
            return Ok(());
        }
        let what = match (self.from, self.to) {
            (None, None) if self.all => "all that is retained".to_owned(),
            (None, None) => {
                let what = "error: say what to replay: a range by --from and --to, or --all for all that is retained\n";
                return Err(Failure::Usage(what.to_owned()));
            }
            (Some(from), None) => format!("what was appended from {} on", from.first),
            (None, Some(to)) => format!("what was appended up to {}", to.last),
            (Some(from), Some(to)) => format!("what was appended from {} to {}", from.first, to.last),
        };
        let group = group.map_or_else(String::new, |group| format!(" for group {group}"));
        confirm(&format!("About to replay {what}{group}."), self.yes)
    }
}

/// Sums of a run.
#[derive(Debug, Default, Serialize)]
struct ReplaySummary {
    pending: u64,
    applied: u64,
    left: u64,
    dry_run: bool,
    complete: bool,
    missing: Option<MissingRange>,
    /// Whether `applied` is known: a dry run has it from a count, which may take longer than a
    /// statement may.
    counted: bool,
}

/// Makes a range pending again.
///
/// # Errors
/// No range is given or confirmed, a store does not answer, there is no such group, or neither
/// store has anything of an hour or more of the range.
pub(super) async fn replay(args: ReplayArgs, mut inputs: Inputs) -> Result<(), Failure> {
    // `--group` is the group to replay for; which one is ours is not for a flag to say.
    let mut flags = (*inputs.flags).clone();
    let group = flags.remove(GROUP.name);
    args.confirm(group.as_deref())?;
    inputs.flags = flags.into();
    let config = Config::load(Purpose::Status, inputs)?;
    let backend = Backend::open(&config, "replay", Needs::Both).await?;
    let request = |next, stop| ReplayRequest {
        from: args.from.map(|point| point.first),
        to: args.to.map(|point| point.last),
        group: group.clone(),
        dry_run: args.dry_run,
        rate: args.rate,
        next,
        stop,
    };
    // The number of entries in the range is not known before they are read.
    run(&backend, args.dry_run, request, |_| None).await?.print(args.output)
}

/// Recomputes the state tables.
pub(super) async fn rebuild(output: OutputArgs, config: Config) -> Result<(), Failure> {
    let backend = Backend::open(&config, "rebuild", Needs::Both).await?;
    let request = |next, stop| RebuildRequest { next, stop };
    run(&backend, false, request, |first| first.stored).await?.print(output)
}

/// Does all steps of a run. `total` is how much there is to do, where its first step says so.
async fn run<O: Operation<Answer = HistoryStep>>(
    backend: &Backend,
    dry_run: bool,
    request: impl Fn(Option<Remaining>, bool) -> O,
    total: impl Fn(&HistoryStep) -> Option<u64>,
) -> Result<ReplaySummary, Failure> {
    let mut summary = ReplaySummary {
        dry_run,
        counted: true,
        ..ReplaySummary::default()
    };
    let (mut next, mut bar) = (None, None);
    let steps = all(async || {
        let step = backend.call(request(next.take(), false)).await?;
        if bar.is_none() {
            summary.missing = step.missing.clone();
            summary.counted = !dry_run || step.stored.is_some();
        }
        bar.get_or_insert_with(|| progress(total(&step)))
            .inc(step.pending + step.applied + step.left);
        summary.pending += step.pending;
        summary.applied += step.applied;
        summary.left += step.left;
        next = step.next;
        Ok(next.is_some())
    });
    summary.complete = steps.await?;
    bar.inspect(|bar| bar.finish_and_clear());
    if !summary.complete {
        backend.call(request(next, true)).await?;
    }
    Ok(summary)
}

impl ReplaySummary {
    fn print(&self, output: OutputArgs) -> Result<(), Failure> {
        output.print(self, || self.text())?;
        if self.missing.as_ref().is_some_and(MissingRange::is_long) || !self.complete {
            return Err(Failure::Reported(Exit::Unavailable));
        }
        Ok(())
    }

    fn text(&self) -> Vec<String> {
        let would = if self.dry_run { "would be " } else { "" };
        let figures = [
            (self.pending, format!("entries of the stream {would}made pending again")),
            (self.applied, format!("events of order_events {would}applied again")),
            (
                self.left,
                "left as they are: unread or pending already, or unreadable".to_owned(),
            ),
        ];
        let counted = figures.into_iter().filter(|(count, _)| *count > 0);
        let mut lines = Vec::from_iter(counted.map(|(count, what)| format!("{count:>8}  {what}")));
        if !self.counted {
            lines
                .push("how many events of order_events would be applied again could not be counted in time".to_owned());
        }
        if lines.is_empty() {
            lines.push("nothing to do".to_owned());
        }
        if let Some(missing) = &self.missing {
            let written = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
            let (from, to) = (written(missing.from), written(missing.to));
            lines.push(format!("missing: {from} to {to}: {}", missing.reason));
        }
        if !self.complete {
            lines.push(
                "interrupted: the above is done; the same command begins from the start, which is harmless".to_owned(),
            );
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_time_a_day_or_an_id() {
        let id = StreamId::new;
        let day = point("2026-01-01").unwrap();
        assert_eq!(
            (day.first, day.last),
            (id(1_767_225_600_000, 0), id(1_767_311_999_999, u64::MAX))
        );
        let time = point("2026-01-01T01:00:00.5+01:00").unwrap();
        assert_eq!(
            (time.first, time.last),
            (id(1_767_225_600_500, 0), id(1_767_225_600_500, u64::MAX))
        );
        let one = point("1767225600000-7").unwrap();
        assert_eq!(
            (one.first, one.last),
            (id(1_767_225_600_000, 7), id(1_767_225_600_000, 7))
        );
        for wrong in ["yesterday", "2026", "2026-13-01", ""] {
            assert!(point(wrong).is_err(), "{wrong}");
        }
    }
}
