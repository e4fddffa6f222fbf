//! `capture`: runs a capture alone, and prepares and steers one.

use std::sync::Arc;

use clap::{Args, Subcommand};

use super::backend::{Access, Backend, Needs, enter, open_stream, stream_file};
use super::stepper::confirm;
use super::{Failure, output, run};
use crate::capture::operate::{self, TriedOrder};
use crate::capture::{CaptureError, Plan};
use crate::config::{CaptureConfig, Config, Inputs, Purpose};
use crate::folder::Folder;
use crate::operations::ResyncCapture;
use crate::stream::Stream;

/// Arguments of `capture`.
#[derive(Debug, Args)]
pub(super) struct CaptureArgs {
    #[command(subcommand)]
    action: Option<CaptureAction>,
}

#[derive(Debug, Subcommand)]
enum CaptureAction {
    /// Print a first capture.toml, guessed from the database's catalog
    Init {
        /// The table of orders, `schema.name`, where it is not found by its name
        #[arg(long)]
        table: Option<String>,
    },
    /// Print what the owner of the database must run
    Sql {
        /// Publish only the columns of keys: less WAL is sent, and no other value leaves the server by the slot
        #[arg(long)]
        only_keys: bool,
    },
    /// Read orders by the mapping and print their events; stores nothing
    Try {
        /// Keys of orders; without any, a sample is read
        keys: Vec<String>,
        /// Orders of the sample
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
        sample: u16,
    },
    /// Have the running capture read orders again: all, or those named
    Resync {
        /// Keys of orders
        keys: Vec<String>,
        /// A condition of SQL on the order table, such as "created_at > now() - interval '1 day'"
        #[arg(long = "where", value_name = "SQL", conflicts_with = "keys")]
        condition: Option<String>,
    },
    /// Remove the replication slot and the checkpoint; a later start reads all orders again
    Drop {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Make the checkpoint belong to this database, after it was upgraded or moved
    Adopt,
}

/// Runs the capture, or does what is asked for.
///
/// # Errors
/// Mapping, source or stream cannot be used.
pub(super) async fn run(args: CaptureArgs, program: String, inputs: Inputs) -> Result<(), Failure> {
    let Some(action) = args.action else {
        return run::run(program, Purpose::Capture, inputs).await;
    };
    let config = Config::load(Purpose::Status, inputs)?;
    let missing = || {
        let text = "ORDERSTREAM_CAPTURE_DATABASE_URL is not set: the address of the shop's own PostgreSQL";
        Failure::Config(text.to_owned())
    };
    let capture = config.capture.clone().ok_or_else(missing)?;
    match action {
        CaptureAction::Init { table } => output::print(operate::init(&capture, table.as_deref()).await?.trim_end()),
        CaptureAction::Sql { only_keys } => output::print(operate::sql(&capture, only_keys)?.trim_end()),
        CaptureAction::Try { keys, sample } => {
            try_orders(&operate::try_orders(&capture, keys, usize::from(sample)).await?)
        }
        CaptureAction::Resync { keys, condition } => resync(keys, condition, &config, &capture).await,
        CaptureAction::Drop { yes } => {
            confirm("About to remove the replication slot and the checkpoint.", yes)?;
            let (_folder, stream) = own_stream(&config).await?;
            operate::drop_capture(&capture, &*stream).await?;
            output::print_lines(["slot and checkpoint are removed"])
        }
        CaptureAction::Adopt => {
            let (_folder, stream) = own_stream(&config).await?;
            operate::adopt(&capture, &*stream).await?;
            output::print_lines(["the checkpoint belongs to this database; the next start reads all orders again"])
        }
    }
}

/// Prints what came of orders; fails where each of them failed.
fn try_orders(tried: &[TriedOrder]) -> Result<(), Failure> {
    let lines = tried.iter().map(|order| match order {
        TriedOrder::Read(line) | TriedOrder::Failed(line) | TriedOrder::Missing(line) => line,
    });
    output::print_lines(lines)?;
    if tried.iter().any(|order| matches!(order, TriedOrder::Read(_))) || tried.is_empty() {
        return Ok(());
    }
    if tried.iter().all(|order| matches!(order, TriedOrder::Missing(_))) {
        return Err(Failure::NotFound("no order has such a key".to_owned()));
    }
    let text = "each of these orders would be a dead letter: mend the query of the mapping";
    Err(Failure::Config(text.to_owned()))
}

async fn resync(
    keys: Vec<String>,
    condition: Option<String>,
    config: &Config,
    capture: &CaptureConfig,
) -> Result<(), Failure> {
    let keys = match condition {
        Some(condition) => match operate::matching(capture, &condition).await? {
            // Without keys all would be read.
            keys if keys.is_empty() => return Err(Failure::NotFound("no order matches".to_owned())),
            keys => keys,
        },
        None if keys.is_empty() => keys,
        None => match &*operate::missing(capture, &keys).await? {
            [] => keys,
            [missing, ..] => return Err(Failure::NotFound(format!("no order has the key {missing}"))),
        },
    };
    let source = Plan::load(&capture.file).map_err(CaptureError::from)?.source;
    let backend = Backend::open(config, "capture resync", Needs::Stream).await?;
    backend.call(ResyncCapture { source, keys }).await?;
    output::print_lines(["the capture reads these orders again; `orderstream status` shows how far it is"])
}

/// The stream, and the data folder where it is a file of that: only its owner changes the
/// checkpoint.
async fn own_stream(config: &Config) -> Result<(Option<Folder>, Arc<dyn Stream>), Failure> {
    let mut folder = None;
    if config.redis.is_none() {
        stream_file(config)?;
        match enter(config, "capture").await? {
            Access::Owned(owned) => folder = Some(owned),
            Access::Running(..) => {
                let text = "the process that runs on the data folder has the checkpoint: stop it, run this command, and \
                            start it again";
                return Err(Failure::Unavailable(text.to_owned()));
            }
        }
    }
    let stream = open_stream(config, folder.as_ref()).await?;
    Ok((folder, stream))
}
