//! `check`: validates the whole configuration and reaches every service. Changes nothing but a probe key in Redis,
//! and makes the data folder where that is needed and missing.

mod embedded;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Exit, Failure, output};
use crate::config::{Config, DatabaseConfig, Inputs, Purpose, RedisConfig, StreamConfig};
use crate::health::ids_warning;
use crate::metrics::Metrics;
use crate::stream::redis::RedisStream;
use crate::stream::{ServerReport, Stream, StreamError};
use crate::warehouse::postgres::PostgresWarehouse;
use crate::warehouse::{Warehouse, WarehouseError};

/// Arguments of `check`.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct CheckArgs {
    /// Which process is to be started with this configuration
    #[arg(value_enum, default_value_t = Process::Run)]
    process: Process,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Process {
    Run,
    Serve,
    Work,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Unavailable,
    Misconfigured,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    /// The variable or the service.
    what: String,
    verdict: Verdict,
    /// What was found.
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

/// Looks at everything, prints what was found, and succeeds where nothing stands in the way.
///
/// # Errors
/// Something does; it is printed already.
pub(super) async fn run(args: CheckArgs, inputs: Inputs) -> Result<(), Failure> {
    let purpose = match args.process {
        Process::Run => Purpose::Run,
        Process::Serve => Purpose::Serve,
        Process::Work => Purpose::Work,
    };
    let findings = match Config::load(purpose, inputs) {
        Ok(config) => reach(&config, purpose).await,
        Err(errors) => {
            let finding = |problem: crate::config::Problem| {
                let wanted = format!("expected {}", problem.expected);
                Finding::new(&problem.variable, Verdict::Misconfigured, problem.problem).remedy(&wanted)
            };
            errors.0.into_iter().map(finding).collect()
        }
    };
    if args.json {
        output::print_json(&serde_json::json!({ "checks": findings }))?;
    } else {
        output::print_lines(findings.iter().flat_map(Finding::lines))?;
    }
    match findings.iter().map(|finding| finding.verdict).max() {
        None | Some(Verdict::Ok | Verdict::Warning) => Ok(()),
        Some(Verdict::Unavailable) => Err(Failure::Reported(Exit::Unavailable)),
        Some(Verdict::Misconfigured) => Err(Failure::Reported(Exit::Config)),
    }
}

async fn reach(config: &Config, purpose: Purpose) -> Vec<Finding> {
    let mut findings = vec![Finding::new("configuration", Verdict::Ok, "valid as a whole")];
    let unknown = config.unknown_names.iter().map(|name| {
        Finding::new("environment", Verdict::Misconfigured, name).remedy("correct the name, or remove the variable")
    });
    findings.extend(unknown);
    findings.extend(
        config
            .warnings
            .iter()
            .map(|text| Finding::new("configuration", Verdict::Warning, text)),
    );
    if config.is_local() {
        let detail = "local mode: no secret is configured, so `run` makes one and keeps it in the data folder";
        findings.push(Finding::new("security", Verdict::Ok, detail));
    }
    if config.redis.is_none() || (purpose.works() && config.database.is_none()) {
        findings.extend(embedded::findings(config).await);
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
    findings.into_iter().chain(stream).chain(warehouse).collect()
}

async fn redis_findings(redis: &RedisConfig, stream: &StreamConfig) -> Vec<Finding> {
    match ask(redis, stream).await {
        Ok(server) => {
            let detail = format!("{} at {}, takes writes", server.product, server.address);
            let warnings = server
                .warnings
                .iter()
                .map(|text| Finding::new("redis", Verdict::Warning, text));
            [Finding::new("redis", Verdict::Ok, detail)]
                .into_iter()
                .chain(warnings)
                .collect()
        }
        Err(error) => {
            let (verdict, remedy) = match &error {
                StreamError::Unreachable { .. } | StreamError::Timeout { .. } | StreamError::Unconfirmed(_) => {
                    (Verdict::Unavailable, "start the server, or correct REDIS_URL")
                }
                StreamError::Refused { .. } => (Verdict::Unavailable, "wait, or see to the server as it says"),
                StreamError::Full(_) => (
                    Verdict::Unavailable,
                    "let the workers catch up, or raise ORDERSTREAM_STREAM_MAXLEN",
                ),
                StreamError::Denied(_) => (
                    Verdict::Misconfigured,
                    "correct user and password in REDIS_URL, or grant the user these rights",
                ),
                StreamError::UnusableKey(_) | StreamError::Unusable(_) => (
                    Verdict::Misconfigured,
                    "see to it as it says: the server's settings, REDIS_URL, or the names of the streams",
                ),
            };
            vec![Finding::new("redis", verdict, error.to_string()).remedy(remedy)]
        }
    }
}

async fn ask(redis: &RedisConfig, stream: &StreamConfig) -> Result<ServerReport, StreamError> {
    let stream = RedisStream::new(redis, stream, Metrics::new())?;
    let mut server = stream.inspect().await?;
    stream.confirm_writable().await?;
    server.warnings.extend(ids_warning(&stream.report().await?));
    Ok(server)
}

async fn database_finding(database: &DatabaseConfig) -> Finding {
    let outcome = match PostgresWarehouse::new(database) {
        Ok(warehouse) => warehouse.check().await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(detail) => Finding::new("postgresql", Verdict::Ok, detail),
        Err(error) => {
            let (verdict, remedy) = match &error {
                // As it should be before the first start.
                WarehouseError::Outdated { .. } => return Finding::new("postgresql", Verdict::Ok, error.to_string()),
                WarehouseError::Unreachable { .. } => {
                    (Verdict::Unavailable, "start the server, or correct DATABASE_URL")
                }
                WarehouseError::Unavailable { .. }
                | WarehouseError::Rejected { .. }
                | WarehouseError::Refused { .. } => (Verdict::Unavailable, "wait, or see to the server as it says"),
                WarehouseError::Incomplete { .. } => (Verdict::Misconfigured, "bring the tables back as it says"),
                WarehouseError::Unusable(_) => (
                    Verdict::Misconfigured,
                    "see to it as it says: DATABASE_URL, its rights, or `orderstream migrate`",
                ),
            };
            Finding::new("postgresql", verdict, error.to_string()).remedy(remedy)
        }
    }
}
