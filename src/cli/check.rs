//! `check`: validates the whole configuration and reaches every service. Changes nothing but a
//! probe key in Redis, and makes the data folder where that is needed and missing.

use clap::Args;
use serde::Serialize;

use super::backend::{Access, enter};
use super::output::OutputArgs;
use super::remote::{self, ProcessRole};
use super::{Exit, Failure};
use crate::capture::operate;
use crate::config::{
    AdminAccess, CaptureConfig, Config, DatabaseConfig, Inputs, Purpose, RedisConfig, ShopifyAdminConfig, StreamConfig,
};
use crate::folder::{self, Folder};
use crate::health::ids_warning;
use crate::metrics::Metrics;
use crate::shopify_admin::subscriptions::{self, WantedSubscriptions};
use crate::shopify_admin::{AdminClient, AdminError};
use crate::stream::embedded::EmbeddedStream;
use crate::stream::redis::RedisStream;
use crate::stream::{MOST_PARTITIONS, PartitionReport, ServerReport, Stream, StreamError};
use crate::warehouse::embedded::EmbeddedWarehouse;
use crate::warehouse::postgres::PostgresWarehouse;
use crate::warehouse::{Warehouse, WarehouseError};

/// Arguments of `check`.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct CheckArgs {
    /// Process that is to be started with this configuration
    #[arg(value_enum, default_value_t = ProcessRole::Run)]
    process: ProcessRole,
    #[command(flatten)]
    output: OutputArgs,
}

/// Checks everything, prints the findings, and succeeds where the process could start.
///
/// # Errors
/// It could not; why is printed already.
pub(super) async fn run(args: CheckArgs, inputs: Inputs) -> Result<(), Failure> {
    let purpose = match args.process {
        ProcessRole::Run => Purpose::Run,
        ProcessRole::Serve => Purpose::Serve,
        ProcessRole::Work => Purpose::Work,
        ProcessRole::Capture => Purpose::Capture,
    };
    let findings = match Config::load(purpose, inputs) {
        Ok(config) => reach(&config, purpose).await,
        Err(errors) => {
            let finding = |problem: crate::config::ConfigProblem| {
                let wanted = format!("expected {}", problem.expected);
                Finding::new(&problem.variable, Verdict::Misconfigured, problem.problem).remedy(&wanted)
            };
            errors.0.into_iter().map(finding).collect()
        }
    };
    let lines = || findings.iter().flat_map(Finding::lines).collect();
    args.output.print(&serde_json::json!({ "checks": findings }), lines)?;
    match findings.iter().map(|finding| finding.verdict).max() {
        None | Some(Verdict::Ok | Verdict::Warning) => Ok(()),
        Some(Verdict::Unavailable) => Err(Failure::Reported(Exit::Unavailable)),
        Some(Verdict::Misconfigured) => Err(Failure::Reported(Exit::Config)),
    }
}

async fn reach(config: &Config, purpose: Purpose) -> Vec<Finding> {
    let mut findings = vec![Finding::new("configuration", Verdict::Ok, "valid as a whole")];
    findings.extend(config.unknown_names.iter().map(|name| {
        Finding::new("environment", Verdict::Misconfigured, name).remedy("correct the name, or remove the variable")
    }));
    let warnings = config.warnings.iter();
    findings.extend(warnings.map(|text| Finding::new("configuration", Verdict::Warning, text)));
    if config.is_local() {
        let detail = "local mode: no secret is configured, so `run` makes one and keeps it in the data folder";
        findings.push(Finding::new("security", Verdict::Ok, detail));
    }
    if config.redis.is_none() || (purpose.works() && config.database.is_none()) {
        findings.extend(folder_findings(config).await);
    }
    let (stream, warehouse) = tokio::join!(
        async {
            match &config.redis {
                Some(redis) => redis_findings(redis, &config.stream).await,
                None => Vec::new(),
            }
        },
        async {
            match &config.database {
                Some(database) => vec![database_finding(database).await],
                None => Vec::new(),
            }
        }
    );
    findings.extend(stream.into_iter().chain(warehouse));
    if let Some(capture) = config.capture.as_ref().filter(|_| purpose.captures()) {
        findings.extend(capture_findings(capture).await);
    }
    if purpose.works() {
        for (shop, access) in &config.shopify_admin.shops {
            findings.extend(shopify_findings(&config.shopify_admin, shop, access).await);
        }
    }
    findings
}

async fn shopify_findings(config: &ShopifyAdminConfig, shop: &str, access: &AdminAccess) -> Vec<Finding> {
    let what = format!("shopify {shop}");
    let asking = async {
        let client = AdminClient::connect(config, shop, access).await?;
        let report = subscriptions::check(&client, &WantedSubscriptions::default()).await?;
        Ok::<_, AdminError>((client, report))
    };
    match asking.await {
        Ok((client, report)) => {
            let (version, timezone) = (&config.api_version, &client.identity().timezone);
            let detail = format!("the Admin API answers, version {version}, with every scope; time zone {timezone}");
            let wrong = report.findings.iter().map(|finding| {
                let detail = format!("{}: {}", finding.topic, finding.detail);
                Finding::new(&what, Verdict::Warning, detail).remedy("run `orderstream subscribe`")
            });
            std::iter::once(Finding::new(&what, Verdict::Ok, detail))
                .chain(wrong)
                .collect()
        }
        Err(error) => {
            vec![Finding::of(&what, Err(error.into())).remedy("mend it as the message says (docs/SHOPIFY.md)")]
        }
    }
}

async fn capture_findings(capture: &CaptureConfig) -> Vec<Finding> {
    match operate::check(capture).await {
        Ok(advice) => {
            let detail = "mapping, rights, publication and replica identities are as they must be";
            let advice = advice
                .into_iter()
                .map(|text| Finding::new("capture", Verdict::Warning, text));
            std::iter::once(Finding::new("capture", Verdict::Ok, detail))
                .chain(advice)
                .collect()
        }
        Err(error) => {
            let finding = Finding::of("capture", Err(error.into()));
            vec![finding.remedy("mend it as the message says (docs/CAPTURE.md)")]
        }
    }
}

async fn redis_findings(redis: &RedisConfig, stream: &StreamConfig) -> Vec<Finding> {
    match ask(redis, stream).await {
        Ok(server) => {
            let detail = format!("{} at {}, takes writes", server.product, server.address);
            let mut found = vec![Finding::new("redis", Verdict::Ok, detail)];
            let warnings = server.warnings.iter();
            found.extend(warnings.map(|text| Finding::new("redis", Verdict::Warning, text)));
            found
        }
        Err(error) => {
            let remedy = match &error {
                StreamError::Unreachable { .. } | StreamError::Timeout { .. } | StreamError::Unconfirmed(_) => {
                    "start the server, or correct REDIS_URL"
                }
                StreamError::Refused { .. } => "wait, or mend the server as the message says",
                StreamError::Full(_) => "let the workers catch up, or raise ORDERSTREAM_STREAM_MAXLEN",
                StreamError::Denied(_) => "correct user and password in REDIS_URL, or grant the user these rights",
                StreamError::UnusableKey(_) | StreamError::Unusable(_) => {
                    "mend it as the message says: the server's settings, REDIS_URL, or the names of the streams"
                }
            };
            vec![Finding::of("redis", Err(error.into())).remedy(remedy)]
        }
    }
}

async fn ask(redis: &RedisConfig, config: &StreamConfig) -> Result<ServerReport, StreamError> {
    let stream = RedisStream::open(redis, config, Metrics::new()).await?;
    let mut server = stream.inspect().await?;
    for partition in 0..stream.partitions() {
        stream.confirm_writable(partition).await?;
    }
    let beyond = backlogs_beyond(redis, config, stream.readable());
    let (report, beyond) = tokio::try_join!(stream.report(), beyond)?;
    server.warnings.extend(ids_warning(&report));
    server.warnings.extend(beyond);
    Ok(server)
}

/// Of each partition beyond the number that any process has noted, whether the workers have yet to
/// load what it holds: nothing reads it.
async fn backlogs_beyond(
    redis: &RedisConfig,
    stream: &StreamConfig,
    readable: u16,
) -> Result<Vec<String>, StreamError> {
    // Such a stream has one partition, and others cannot be named.
    if stream.name.contains(['{', '}']) {
        return Ok(Vec::new());
    }
    let all = StreamConfig {
        partitions: Some(MOST_PARTITIONS),
        ..stream.clone()
    };
    let report = RedisStream::new(redis, &all, Metrics::new())?.report().await?;
    let left = report.partitions.into_iter().filter(|one| one.partition >= readable);
    let warning = |one: PartitionReport| {
        let (stream, least) = (one.stream, one.partition + 1);
        format!(
            "`{stream}` holds events that no worker reads: set ORDERSTREAM_PARTITIONS={least} for `work` until they are loaded"
        )
    };
    Ok(left.filter(|one| one.oldest_backlog.is_some()).map(warning).collect())
}

async fn database_finding(database: &DatabaseConfig) -> Finding {
    let outcome = match PostgresWarehouse::new(database) {
        Ok(warehouse) => warehouse.check().await,
        Err(error) => Err(error),
    };
    let remedy = match &outcome {
        Ok(_) => return Finding::of("postgresql", outcome.map_err(Failure::from)),
        // As it should be before the first start.
        Err(error @ WarehouseError::Outdated { .. }) => return Finding::of("postgresql", Ok(error.to_string())),
        Err(WarehouseError::Unreachable { .. }) => "start the server, or correct DATABASE_URL",
        Err(WarehouseError::Unavailable { .. } | WarehouseError::Rejected { .. } | WarehouseError::Refused { .. }) => {
            "wait, or mend the server as the message says"
        }
        Err(WarehouseError::Incomplete { .. }) => "restore the tables as the message says",
        Err(WarehouseError::Unusable(_)) => {
            "mend it as the message says: DATABASE_URL, its rights, or `orderstream migrate`"
        }
    };
    Finding::of("postgresql", outcome.map_err(Failure::from)).remedy(remedy)
}

/// Checks the folder, and the files of stores for which no server is configured.
async fn folder_findings(config: &Config) -> Vec<Finding> {
    let folder = match enter(config, "check").await {
        Ok(Access::Owned(folder)) => folder,
        Ok(Access::Running(owner, admin)) => {
            let answers = remote::report(admin).await;
            return vec![Finding::of(
                "data folder",
                answers.map(|_| format!("in use by {owner}, which answers")),
            )];
        }
        Err(failure) => return vec![Finding::of("data folder", Err(failure))],
    };
    let place = folder.path().display();
    let mut found = vec![Finding::of(
        "data folder",
        Ok(format!("{place} can be owned and written")),
    )];
    if config.redis.is_none() {
        found.push(Finding::of("embedded stream", stream_file(&folder)));
    }
    if config.database.is_none() {
        found.push(Finding::of("embedded warehouse", warehouse_file(&folder).await));
    }
    found
}

fn stream_file(folder: &Folder) -> Result<String, Failure> {
    let Some(file) = folder.existing(folder::STREAM) else {
        return Ok(made_later(folder::STREAM));
    };
    EmbeddedStream::check_file(&file)?;
    Ok(format!("{} is sound", file.display()))
}

async fn warehouse_file(folder: &Folder) -> Result<String, Failure> {
    match folder.existing(folder::WAREHOUSE) {
        Some(file) => match EmbeddedWarehouse::open(&file).check().await {
            // As it should be before the first start, or after one that failed early.
            Err(error @ WarehouseError::Outdated { .. }) => Ok(error.to_string()),
            checked => Ok(checked?),
        },
        None => Ok(made_later(folder::WAREHOUSE)),
    }
}

fn made_later(file: &str) -> String {
    format!("{file} is made by the first `orderstream run`")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Unavailable,
    Misconfigured,
}

/// Result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    /// The variable or the service.
    what: String,
    verdict: Verdict,
    /// Its state, as a sentence.
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn new(what: &str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            verdict,
            detail: detail.into(),
            remedy: None,
        }
    }

    /// What a service answered, with the verdict that the failure's exit code means.
    fn of(what: &str, outcome: Result<String, Failure>) -> Self {
        match outcome {
            Ok(detail) => Self::new(what, Verdict::Ok, detail),
            Err(failure) => {
                let verdict = match failure.exit() {
                    Exit::Config | Exit::Usage => Verdict::Misconfigured,
                    Exit::Done | Exit::NotFound | Exit::Unavailable => Verdict::Unavailable,
                };
                Self::new(what, verdict, failure.to_string())
            }
        }
    }

    fn remedy(self, remedy: &str) -> Self {
        Self {
            remedy: Some(remedy.to_owned()),
            ..self
        }
    }

    fn lines(&self) -> Vec<String> {
        let mark = match self.verdict {
            Verdict::Ok => '✓',
            Verdict::Warning => '!',
            Verdict::Unavailable | Verdict::Misconfigured => '✗',
        };
        let mut lines = vec![format!("{mark} {}: {}", self.what, self.detail)];
        lines.extend(self.remedy.iter().map(|remedy| format!("    → {remedy}")));
        lines
    }
}
