//! What `check` finds in the data folder: whether it is ours to use, and whether what stands in it works.

use super::{Finding, Verdict};
use crate::cli::embedded::{Access, enter};
use crate::cli::{Exit, Failure, instance};
use crate::config::Config;
use crate::folder::{self, Folder};
use crate::stream::embedded::EmbeddedStream;
use crate::warehouse::Warehouse;
use crate::warehouse::embedded::EmbeddedWarehouse;

/// Looks at what is kept in the data folder where no server is configured for it.
pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let folder = match enter(config, "check").await {
        Ok(Access::Ours(folder)) => folder,
        Ok(Access::Theirs(owner, admin)) => {
            let answers = instance::report(admin).await;
            return vec![judged(
                "data folder",
                answers.map(|_| format!("in use by {owner}, which answers")),
            )];
        }
        Err(failure) => return vec![judged("data folder", Err(failure))],
    };
    let place = folder.path().display();
    let mut found = vec![judged("data folder", Ok(format!("{place} is free, and takes files")))];
    if config.redis.is_none() {
        found.push(judged("embedded stream", stream(&folder)));
    }
    if config.database.is_none() {
        found.push(judged("embedded warehouse", warehouse(&folder).await));
    }
    found
}

fn stream(folder: &Folder) -> Result<String, Failure> {
    let Some(file) = folder.existing(folder::STREAM) else {
        return Ok(made_later(folder::STREAM));
    };
    EmbeddedStream::check_file(&file)?;
    Ok(format!("{} is sound", file.display()))
}

async fn warehouse(folder: &Folder) -> Result<String, Failure> {
    match folder.existing(folder::WAREHOUSE) {
        Some(file) => Ok(EmbeddedWarehouse::open(&file).check().await?),
        None => Ok(made_later(folder::WAREHOUSE)),
    }
}

fn made_later(file: &str) -> String {
    format!("{file} is made by the first `orderstream run`")
}

fn judged(what: &str, outcome: Result<String, Failure>) -> Finding {
    match outcome {
        Ok(detail) => Finding::new(what, Verdict::Ok, detail),
        Err(failure) => {
            let verdict = match failure.exit() {
                Exit::Config | Exit::Usage => Verdict::Misconfigured,
                Exit::Done | Exit::NotFound | Exit::Unavailable => Verdict::Unavailable,
            };
            Finding::new(what, verdict, failure.to_string())
        }
    }
}
