//! What an operator does with a capture: prepare it, try its mapping, have orders read again,
//! remove it.

use serde_json::json;

use super::connection::{self, CaptureError, target};
use super::convert::{Converted, ReadContext, Wanted};
use super::plan::Plan;
use super::record::{Record, ResyncRequest};
use super::source::{self, OrderReader, SourceSession};
use super::standing::TimelineHistory;
use crate::config::CaptureConfig;
use crate::postgres::Replication;
use crate::stream::{CheckpointedAppend, NewEntry, Stream};

/// Orders that are looked at for advice.
const SAMPLE: usize = 100;

/// Prints a first mapping with guesses from the catalog: foreign keys and names of columns.
///
/// # Errors
/// The source does not answer, or has no table that looks like one of orders.
pub async fn init(config: &CaptureConfig, table: Option<&str>) -> Result<String, CaptureError> {
    Ok(source::guess(&connect(config).await?, table).await?)
}

/// What the owner of the tables must run, for the plan of the configured file. `only_keys`: so that
/// changes hold the columns of keys alone.
///
/// # Errors
/// The file.
pub fn sql(config: &CaptureConfig, only_keys: bool) -> Result<String, CaptureError> {
    Ok(source::preparation(&Plan::load(&config.file)?, only_keys))
}

/// Whether mapping and source are as they must be, and what works and may hurt later, each with
/// what mends it.
///
/// # Errors
/// The first fault, with what mends it; or the source does not answer.
pub async fn check(config: &CaptureConfig) -> Result<Vec<String>, CaptureError> {
    let (plan, mut reader) = reader(config).await?;
    let session = connect(config).await?;
    let catalog = source::inspect(&session, &plan).await?;
    reader.rehearse(&plan, &catalog).await?;
    Replication::connect(&target(config)?, config.connect_timeout).await?;
    let mut advice = source::advise_on_server(&session, &plan.slot()).await?;
    if source::publication(&session, &plan).await?.is_none() {
        let what = "there is no publication yet: a role that owns the tables makes it at the first start, else run \
                    what `orderstream capture sql` prints";
        advice.push(what.to_owned());
    }
    if plan.orders.is_none() {
        return Ok(advice);
    }
    let keys = reader.page(None, SAMPLE).await?;
    advice.extend(source::advise_on_fields(&catalog));
    let explained = reader.explain(&keys).await?;
    advice.extend(source::advise_on_query(&session, &plan, &explained).await?);
    let sample = read_orders(&plan, &mut reader, &keys).await?;
    let mut dead_letters = sample.iter().filter_map(|converted| match converted {
        Converted::DeadLetter(entry) => Some(field(entry, "error")),
        Converted::Event(_) | Converted::Filtered => None,
    });
    if let Some(error) = dead_letters.next() {
        advice.push(format!(
            "{} of {} sampled orders would be dead letters, the first for: {error} (`orderstream capture try`)",
            dead_letters.count() + 1,
            keys.len()
        ));
    }
    Ok(advice)
}

/// What came of an order that was tried, as JSON.
pub enum TriedOrder {
    /// Its event; or that the query leaves it out.
    Read(String),
    /// Why it would become a dead letter.
    Failed(String),
    /// No order has the key.
    Missing(String),
}

/// Reads orders and answers what would come of them; stores nothing.
///
/// # Errors
/// The file, or the source.
pub async fn try_orders(
    config: &CaptureConfig,
    keys: Vec<String>,
    sample: usize,
) -> Result<Vec<TriedOrder>, CaptureError> {
    let (plan, mut reader) = reader(config).await?;
    let asked = if keys.is_empty() {
        let sample = reader.page(None, sample).await?;
        sample.into_iter().map(|key| (key, true)).collect()
    } else {
        reader.known(&keys).await?
    };
    let keys = Vec::from_iter(
        asked
            .iter()
            .filter(|(_, is_known)| *is_known)
            .map(|(key, _)| key.clone()),
    );
    let mut read = read_orders(&plan, &mut reader, &keys).await?.into_iter();
    let tried = asked
        .into_iter()
        .map(|(key, is_known)| match is_known.then(|| read.next()).flatten() {
            Some(Converted::Event(entry)) => TriedOrder::Read(field(&entry, "payload")),
            Some(Converted::Filtered) => TriedOrder::Read(json!({"key": key, "filtered": true}).to_string()),
            Some(Converted::DeadLetter(entry)) => {
                TriedOrder::Failed(json!({"key": key, "error": field(&entry, "error")}).to_string())
            }
            None => TriedOrder::Missing(json!({"key": key, "error": "no order has this key"}).to_string()),
        });
    Ok(tried.collect())
}

/// Those of the keys that no order has.
///
/// # Errors
/// The file, or the source.
pub async fn missing(config: &CaptureConfig, keys: &[String]) -> Result<Vec<String>, CaptureError> {
    let known = reader(config).await?.1.known(keys).await?;
    Ok(known
        .into_iter()
        .filter_map(|(key, is_known)| (!is_known).then_some(key))
        .collect())
}

/// What these orders would become.
async fn read_orders(plan: &Plan, reader: &mut OrderReader, keys: &[String]) -> Result<Vec<Converted>, CaptureError> {
    let asked = Vec::from_iter(keys.iter().map(String::as_str));
    let answer = reader.read(&asked, &[], 0).await?;
    let read = ReadContext {
        plan,
        system: "try",
        history: &TimelineHistory::default(),
        clock: answer.now,
        triggered: answer.now,
        walk: Some("try"),
        answer: &answer,
    };
    Ok(asked.iter().map(|key| read.order(&Wanted::new(*key, None))).collect())
}

fn field(entry: &NewEntry, name: &str) -> String {
    let value = entry.fields.get(name);
    value.map_or_else(String::new, |value| String::from_utf8_lossy(value).into_owned())
}

/// Source and keys of orders for which a condition of SQL holds.
///
/// # Errors
/// The file or the source; or more orders match than a request may name.
pub async fn matching(config: &CaptureConfig, condition: &str) -> Result<Vec<String>, CaptureError> {
    const MOST: usize = ResyncRequest::MOST_KEYS;
    let (_, mut reader) = reader(config).await?;
    let keys = reader.matching(condition, MOST + 1).await?;
    if keys.len() > MOST {
        let what = format!("more than {MOST} orders match: name fewer, or read all again without --where");
        return Err(CaptureError::Source(what));
    }
    Ok(keys)
}

async fn connect(config: &CaptureConfig) -> Result<SourceSession, CaptureError> {
    Ok(SourceSession::connect(&target(config)?, config.connect_timeout).await?)
}

/// The plan, and what reads orders by it.
async fn reader(config: &CaptureConfig) -> Result<(Plan, OrderReader), CaptureError> {
    let plan = Plan::load(&config.file)?;
    let catalog = source::inspect_tables(&connect(config).await?, &plan).await?;
    let reader = connection::reader(config, &plan, &catalog)?;
    Ok((plan, reader))
}

/// Removes slot and checkpoint. A later start is a first one.
///
/// # Errors
/// The file, the source (a process still captures), or the stream.
pub async fn drop_capture(config: &CaptureConfig, stream: &dyn Stream) -> Result<(), CaptureError> {
    let plan = Plan::load(&config.file)?;
    source::drop_slot(&connect(config).await?, &plan.slot()).await?;
    Ok(stream.checkpointed(&plan.source).remove().await?)
}

/// Makes the checkpoint belong to the cluster that the URL leads to: the next start is a gap, which
/// is healed by a walk.
///
/// # Errors
/// There is no checkpoint; or the file, the source or the stream.
pub async fn adopt(config: &CaptureConfig, stream: &dyn Stream) -> Result<(), CaptureError> {
    let plan = Plan::load(&config.file)?;
    let mut connection = Replication::connect(&target(config)?, config.connect_timeout).await?;
    let identity = connection.identify().await?;
    let mut writer = stream.checkpointed(&plan.source);
    let checkpoint = writer.read().await?;
    let mut record = Record::parse(&checkpoint.record)?
        .ok_or_else(|| CaptureError::Source("there is no checkpoint to adopt: start the capture".to_owned()))?;
    record.system = identity.system;
    record.timeline = identity.timeline;
    record.position = Default::default();
    let json = serde_json::to_string(&record).unwrap_or_default();
    match writer.append(&[], checkpoint.version, &json, 100).await? {
        CheckpointedAppend::Stored => Ok(()),
        CheckpointedAppend::Moved | CheckpointedAppend::Full(_) => Err(CaptureError::Unavailable(
            "a process captures meanwhile: stop it first".to_owned(),
        )),
    }
}
