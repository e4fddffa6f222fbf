//! `dead-letters`: lists, shows, replays and discards dead letters.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::backend::{Backend, Needs};
use super::output::{OutputArgs, cell, progress, table};
use super::stepper::{all, confirm};
use super::{Exit, Failure};
use crate::config::Config;
use crate::operations::fingerprint::pattern;
use crate::operations::{
    Action, DeadLetterGroups, DeadLetterPage, DeadLetterQuery, DeadLetterSummary, DeadLetterView, DiscardDeadLetters,
    GetDeadLetter, GroupDeadLetters, ReplayDeadLetters, ResolutionOutcome, ResolveRequest,
};
use crate::stream::StreamId;

/// Arguments of `dead-letters`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream dead-letters list                              by cause, then the newest ones
  orderstream dead-letters replay --fingerprint 3f09 --dry-run   what this release would make of them
  orderstream dead-letters replay --all --yes                replay all; each event is loaded once, however often
  orderstream dead-letters discard --id 1767225600000-0")]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// Dead letters by cause, and the newest ones
    List(ListArgs),
    /// One dead letter in full, personal fields included
    Show(ShowArgs),
    /// Append their events to the stream again
    Replay(ResolveArgs),
    /// Remove them
    Discard(ResolveArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only dead letters of this cause: its fingerprint, or the beginning of it
    #[arg(long)]
    fingerprint: Option<String>,
    /// Dead letters at most
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    count: u16,
    /// The newest dead letter to show: the `next` of the page before
    #[arg(long)]
    to: Option<StreamId>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Its id
    id: StreamId,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
struct ResolveArgs {
    /// This dead letter; may be given more than once
    #[arg(long, group = "which", value_name = "ID")]
    id: Vec<StreamId>,
    /// All dead letters of this cause: its fingerprint, or the beginning of it
    #[arg(long, group = "which")]
    fingerprint: Option<String>,
    /// All dead letters
    #[arg(long, group = "which")]
    all: bool,
    /// Change nothing, print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Dead letters a second [default: 500]
    #[arg(long)]
    rate: Option<NonZeroU32>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Lists, shows, replays or discards.
///
/// # Errors
/// The stream does not answer, or dead letters that were to be resolved stay.
pub(super) async fn run(args: DeadLettersArgs, config: Config) -> Result<(), Failure> {
    let backend = Backend::open(&config, "dead-letters", Needs::Stream).await?;
    match args.command {
        DeadLettersCommand::List(args) => list(&backend, args).await,
        DeadLettersCommand::Show(args) => show(&backend, args).await,
        DeadLettersCommand::Replay(args) => resolve(&backend, Action::Replay, args).await,
        DeadLettersCommand::Discard(args) => resolve(&backend, Action::Discard, args).await,
    }
}

async fn list(backend: &Backend, args: ListArgs) -> Result<(), Failure> {
    let query = DeadLetterQuery {
        fingerprint: args.fingerprint,
        to: args.to,
        count: Some(args.count.into()),
    };
    let page = backend.call(query).await?;
    let groups = backend.call(GroupDeadLetters {}).await?;
    let result = serde_json::json!({
        "groups": groups.groups, "complete": groups.complete, "letters": page.dead_letters, "next": page.next,
    });
    args.output.print(&result, || page_lines(&page, &groups))
}

fn page_lines(page: &DeadLetterPage, groups: &DeadLetterGroups) -> Vec<String> {
    if page.dead_letters.is_empty() {
        return vec!["no dead letters".to_owned()];
    }
    let causes = groups.groups.iter().map(|group| {
        [
            group.count.to_string(),
            group.fingerprint.clone(),
            cell(group.first_seen.as_deref()),
            cell(group.last_seen.as_deref()),
            group.pattern.clone(),
        ]
    });
    let mut lines = table(["count", "fingerprint", "first seen", "last seen", "cause"], causes);
    lines.push(String::new());
    let heading = ["id", "origin", "type", "shop", "order", "event", "error"];
    lines.extend(table(heading, page.dead_letters.iter().map(row)));
    lines.extend(page.next.map(|next| format!("more: --to {next}")));
    lines
}

fn row(dead_letter: &DeadLetterSummary) -> [String; 7] {
    let copies = match dead_letter.copies.len() {
        0 | 1 => dead_letter.error.clone(),
        copies => format!("{} ({copies} copies)", dead_letter.error),
    };
    [
        dead_letter.id.to_string(),
        format!("{:?}", dead_letter.origin).to_lowercase(),
        cell(dead_letter.event_type.as_deref()),
        cell(dead_letter.shop.as_deref()),
        cell(dead_letter.order_id.as_deref()),
        cell(dead_letter.event_id.as_deref()),
        copies,
    ]
}

async fn show(backend: &Backend, args: ShowArgs) -> Result<(), Failure> {
    let view = backend.call(GetDeadLetter { id: args.id }).await?;
    args.output.print(&view, || details(&view))
}

fn details(view: &DeadLetterView) -> Vec<String> {
    let DeadLetterView {
        dead_letter,
        entry_stands,
        content,
    } = view;
    let stands = match entry_stands {
        Some(false) => ", no longer in the stream",
        Some(true) | None => "",
    };
    let mut lines = vec![
        format!("error        {}", dead_letter.error),
        format!("fingerprint  {}", dead_letter.fingerprint),
        format!(
            "attempts     {}, last by {}",
            dead_letter.attempts,
            cell(dead_letter.consumer.as_deref())
        ),
        format!("original     {}{stands}", cell(dead_letter.original_id.as_deref())),
    ];
    if dead_letter.copies.len() > 1 {
        let copies = Vec::from_iter(dead_letter.copies.iter().map(StreamId::to_string));
        lines.push(format!("copies       {}", copies.join(" ")));
    }
    lines.push(String::new());
    lines.extend(content.fields.iter().map(|field| match field.name.as_str() {
        // Encoded: it is shown below, and as it is by --json.
        "raw" if content.body.is_some() => format!("raw              {} bytes, below as the body", field.bytes),
        name => format!("{name:<16} {}", field.value),
    }));
    match (&content.event, &content.undecodable) {
        (Some(event), _) => lines.extend([String::new(), format!("as an event      {event}")]),
        (None, Some(why)) => lines.extend([String::new(), format!("no event         {why}")]),
        (None, None) => {}
    }
    if let Some(body) = &content.body {
        lines.extend([String::new(), "body".to_owned()]);
        // Indented, so that its lines cannot be mistaken for those above.
        lines.extend(body.lines().map(|line| format!("  {line}")));
    }
    lines
}

/// Sums of a run.
#[derive(Debug, Default, Serialize)]
struct ResolveSummary {
    done: u64,
    kept: u64,
    dry_run: bool,
    complete: bool,
    /// Types that the events have, or would have.
    event_types: BTreeMap<String, u64>,
    /// Why dead letters stay.
    reasons: BTreeMap<String, u64>,
}

async fn resolve(backend: &Backend, action: Action, args: ResolveArgs) -> Result<(), Failure> {
    let (total, is_exact) = count(backend, &args).await?;
    let verb = match action {
        Action::Replay => "replay",
        Action::Discard => "discard for good",
    };
    let is_harmless = args.dry_run || action == Action::Replay && !args.id.is_empty();
    if !is_harmless {
        let at_least = if is_exact { "" } else { "at least " };
        confirm(&format!("About to {verb} {at_least}{total} dead letters."), args.yes)?;
    }
    let mut request = ResolveRequest {
        ids: args.id.clone(),
        fingerprint: args.fingerprint.clone(),
        all: args.all,
        dry_run: args.dry_run,
        rate: args.rate,
        next: None,
    };
    let mut summary = ResolveSummary {
        dry_run: args.dry_run,
        ..ResolveSummary::default()
    };
    let bar = progress(is_exact.then_some(total));
    let complete = all(async || {
        let step = match action {
            Action::Replay => backend.call(ReplayDeadLetters(request.clone())).await?,
            Action::Discard => backend.call(DiscardDeadLetters(request.clone())).await?,
        };
        bar.inc(step.done + step.kept);
        summary.done += step.done;
        summary.kept += step.kept;
        for dead_letter in step.dead_letters {
            match (dead_letter.outcome, dead_letter.reason, dead_letter.event_type) {
                (ResolutionOutcome::Kept, reason, _) => {
                    *summary.reasons.entry(pattern(&reason.unwrap_or_default())).or_default() += 1;
                }
                (_, _, event_type) => *summary.event_types.entry(event_type.unwrap_or_default()).or_default() += 1,
            }
        }
        request.next = step.next;
        Ok(step.next.is_some())
    });
    summary.complete = complete.await?;
    bar.finish_and_clear();
    if !args.id.is_empty() && summary.done + summary.kept == 0 {
        return Err(Failure::Unavailable(
            "there is no such dead letter (any more)".to_owned(),
        ));
    }
    args.output.print(&summary, || summary.text(action))?;
    if summary.kept > 0 && !args.dry_run || !summary.complete {
        return Err(Failure::Reported(Exit::Unavailable));
    }
    Ok(())
}

/// How many dead letters are selected, and whether that is exact: where there are very many, not
/// all of them are read.
async fn count(backend: &Backend, args: &ResolveArgs) -> Result<(u64, bool), Failure> {
    if !args.id.is_empty() {
        return Ok((args.id.len() as u64, true));
    }
    let groups = backend.call(GroupDeadLetters {}).await?;
    Ok((groups.count(args.fingerprint.as_deref())?, groups.complete))
}

impl ResolveSummary {
    fn text(&self, action: Action) -> Vec<String> {
        let done = match (action, self.dry_run) {
            (Action::Replay, false) => "replayed",
            (Action::Replay, true) => "would be replayed",
            (Action::Discard, false) => "discarded",
            (Action::Discard, true) => "would be discarded",
        };
        let mut lines = vec![format!("{} {done}, {} kept", self.done, self.kept)];
        lines.extend(
            self.event_types
                .iter()
                .map(|(name, count)| format!("{count:>8}  {name}")),
        );
        lines.extend(
            self.reasons
                .iter()
                .map(|(reason, count)| format!("{count:>8}  kept: {reason}")),
        );
        if !self.complete {
            lines.push("interrupted: the others are unchanged; repeat the command to go on".to_owned());
        }
        lines
    }
}
