//! The data folder in `check`: whether it can be owned, and whether its files are sound.

use super::finding::Finding;
use crate::cli::stores::{Access, enter};
use crate::cli::{Failure, instance};
use crate::config::Config;
use crate::folder::{self, Folder};
use crate::stream::embedded::EmbeddedStream;
use crate::warehouse::Warehouse;
use crate::warehouse::embedded::EmbeddedWarehouse;

/// Checks the folder, and the files of stores for which no server is configured.
pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let folder = match enter(config, "check").await {
        Ok(Access::Owned(folder)) => folder,
        Ok(Access::Running(owner, admin)) => {
            let answers = instance::report(admin).await;
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
        found.push(Finding::of("embedded stream", stream(&folder)));
    }
    if config.database.is_none() {
        found.push(Finding::of("embedded warehouse", warehouse(&folder).await));
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
