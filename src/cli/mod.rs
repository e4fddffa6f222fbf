//! The command line: arguments, exit codes, output.
//!
//! Layout: one file for each command; what they share is
//! - `settings.rs`, every setting as a flag; `exit.rs`, exit codes and failures;
//! - `backend.rs`, which carries out an [`Operation`](crate::operations::Operation) over the
//!   configured stores or, through `remote.rs`, by the process that owns them;
//! - `shopify.rs`: clients of the configured shops' Admin API;
//! - `output.rs`: results on stdout, progress on stderr; `stepper.rs`: runs of many steps.
//!
//! A command loads its configuration, calls one operation, and prints the result; there is no other
//! logic here. Invariants: stdout holds results alone, logs and errors go to stderr; no character
//! from outside acts on the terminal; a file is opened only in a folder that no process runs on,
//! save for a spool that is read.

mod backend;
mod capture;
mod check;
mod completions;
mod dead_letters;
mod drain;
mod exit;
mod forget;
mod greeting;
mod health;
mod import;
mod init;
mod migrate;
mod nodes;
mod output;
mod pause;
mod reconcile;
mod remote;
mod replay;
mod run;
mod secrets;
mod send;
mod settings;
mod shopify;
mod status;
mod stepper;
mod subscribe;
mod tail;
mod trace;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::exit::{Exit, Failure};

use self::output::OutputArgs;
use crate::config::{Config, Inputs, Purpose};

const EXAMPLES: &str = "\
Examples:
  orderstream                               ingest and workers in one process, on files
  orderstream send --count 1000 --rate 50   send signed test orders to it, from a second terminal
  orderstream status --watch                health of the stream and its workers

Settings are variables, flags of the same name, or lines of a --config file: see `COMMAND --help`.
Secrets and URLs are better given as variables or as NAME_FILE: other users can see flags.
Exit codes: 0 done, 1 not found or ambiguous, 64 usage, 69 service unavailable, 78 configuration.";

/// With the commit where the build knew it, and the optional features that it was built with.
fn version() -> String {
    let commit = option_env!("ORDERSTREAM_COMMIT").map(|commit| format!("commit {commit}"));
    let otel = cfg!(feature = "otel").then(|| "otel".to_owned());
    let more = Vec::from_iter(commit.into_iter().chain(otel)).join(", ");
    match more.as_str() {
        "" => env!("CARGO_PKG_VERSION").to_owned(),
        more => format!("{} ({more})", env!("CARGO_PKG_VERSION")),
    }
}

/// Takes Shopify order webhooks, makes them durable in a stream, and lands each in a warehouse
/// exactly once: on Redis and PostgreSQL, or with nothing configured in files of its own.
#[derive(Debug, Parser)]
#[command(name = "orderstream", version = version(), about, after_help = EXAMPLES, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ingest and workers in one process (what `orderstream` alone does)
    Run,
    /// Only ingest: takes webhooks and batches, never opens the warehouse
    Serve,
    /// Only workers: loads the warehouse from the stream
    Work,
    /// Only capture: changes of the shop's own PostgreSQL into the stream
    Capture(capture::CaptureArgs),
    /// Send signed test webhooks to a running instance
    Send(Box<send::SendArgs>),
    /// Validate the whole configuration and reach every service
    Check(check::CheckArgs),
    /// Bring the warehouse schema up to date
    Migrate,
    /// List, show, replay or discard dead letters
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Trace one order from webhook to row
    Trace(trace::TraceArgs),
    /// Make retained entries pending again, for this or another group
    Replay(replay::ReplayArgs),
    /// Recompute orders, order_items and order_refunds from order_events
    Rebuild(OutputArgs),
    /// Stop all workers from reading; events stay in the stream
    Pause(OutputArgs),
    /// Let them read again
    Resume(OutputArgs),
    /// Forget a customer or a shop in every store
    Forget(forget::ForgetArgs),
    /// Check or repair the webhook subscriptions of a shop
    Subscribe(subscribe::SubscribeArgs),
    /// Find and repair orders that the warehouse lacks or has in an older state
    Reconcile(reconcile::ReconcileArgs),
    /// Import orders of a shop's history from files
    Import(import::ImportArgs),
    /// Move the spool of a former process into Redis
    Drain(drain::DrainArgs),
    /// Print the health report
    Status(status::StatusArgs),
    /// Print events as they come
    Tail(tail::TailArgs),
    /// The health of this node as an exit code, for HEALTHCHECK
    Health(health::HealthArgs),
    /// Write a commented configuration with fresh secrets
    Init(init::InitArgs),
    /// Print a script that completes commands and flags in a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual pages, for packages
    #[command(hide = true)]
    Man(completions::ManArgs),
}

/// Runs the program: parses, loads, acts; answers the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>, env: impl IntoIterator<Item = (OsString, OsString)>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = args
        .first()
        .map_or_else(|| "orderstream".into(), |name| name.to_string_lossy().into_owned());
    let outcome = parse(args, env).and_then(|parsed| match parsed {
        Some((command, inputs)) => dispatch(program, command, inputs),
        None => Ok(()),
    });
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            failure.print();
            failure.exit().into()
        }
    }
}

/// The command and its inputs; `None` where help or version was asked for and is printed.
fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Option<(Command, Inputs)>, Failure> {
    let program = settings::add_to(Cli::command());
    let matches = match program.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => return Err(Failure::Usage(error.render().to_string())),
        Err(help) => {
            // A reader that closed its end (`--help | head`) is no failure.
            let _ = help.print();
            return Ok(None);
        }
    };
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.to_string_lossy().into()));
    let inputs = Inputs {
        flags: Arc::new(settings::given(&matches)),
        env: Arc::new(env.into_iter().filter_map(text).collect::<BTreeMap<_, _>>()),
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Failure::Usage(error.render().to_string()))?;
    Ok(Some((cli.command.unwrap_or(Command::Run), inputs)))
}

fn dispatch(name: String, command: Command, inputs: Inputs) -> Result<(), Failure> {
    // Only fails where a provider is installed already, which is then the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::Unavailable(error.to_string()))?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Run => run::run(name, Purpose::Run, inputs).await,
            Command::Serve => run::run(name, Purpose::Serve, inputs).await,
            Command::Work => run::run(name, Purpose::Work, inputs).await,
            Command::Capture(args) => capture::run(args, name, inputs).await,
            Command::Send(args) => send::run(*args, load(Purpose::Client, inputs)?).await,
            Command::Check(args) => check::run(args, inputs).await,
            Command::Migrate => migrate::run(load(Purpose::Migrate, inputs)?).await,
            Command::DeadLetters(args) => dead_letters::run(args, load(Purpose::Status, inputs)?).await,
            Command::Trace(args) => trace::run(args, load(Purpose::Status, inputs)?).await,
            Command::Replay(args) => replay::replay(args, inputs).await,
            Command::Rebuild(output) => replay::rebuild(output, load(Purpose::Status, inputs)?).await,
            Command::Pause(output) => pause::run(true, output, load(Purpose::Status, inputs)?).await,
            Command::Resume(output) => pause::run(false, output, load(Purpose::Status, inputs)?).await,
            Command::Forget(args) => forget::run(args, load(Purpose::Status, inputs)?).await,
            Command::Subscribe(args) => subscribe::run(args, load(Purpose::Client, inputs)?).await,
            Command::Reconcile(args) => reconcile::run(args, load(Purpose::Status, inputs)?).await,
            Command::Import(args) => import::run(args, load(Purpose::Status, inputs)?).await,
            Command::Drain(args) => drain::run(args, load(Purpose::Status, inputs)?).await,
            Command::Status(args) => status::run(args, load(Purpose::Status, inputs)?).await,
            Command::Tail(args) => tail::run(args, load(Purpose::Status, inputs)?).await,
            Command::Init(args) => init::run(&args),
            Command::Health(args) => health::run(args, load(Purpose::Client, inputs)?).await,
            Command::Completions(args) => completions::completions(&args, settings::add_listed_to(Cli::command())),
            Command::Man(args) => completions::man(&args, settings::add_listed_to(Cli::command())),
        }
    });
    // Dropped, it would wait for name look-ups that hang in the system's resolver.
    runtime.shutdown_background();
    outcome
}

fn load(purpose: Purpose, inputs: Inputs) -> Result<Config, Failure> {
    Ok(Config::load(purpose, inputs)?)
}
