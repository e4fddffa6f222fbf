//! All scenes by name, and what each runs.

mod backlog;
mod batches;
mod capture;
mod cluster;
mod ingest;
mod large_backlog;
mod pipeline;
mod soak;
mod spool;
mod stock;
mod workers;

use crate::lab::Lab;
use crate::results::Trial;

/// Every scene, in the order of the documentation.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = ingest::SCENES.iter().map(|scene| scene.name).collect();
    names.extend([
        "batches",
        "spool",
        "workers",
        "growth",
        "end-to-end",
        "backlog",
        "large-backlog",
        "capture",
        "cluster",
        "soak",
    ]);
    names
}

/// Runs one scene.
pub async fn run(name: &str, lab: &Lab) -> anyhow::Result<Vec<Trial>> {
    if let Some(scene) = ingest::SCENES.iter().find(|scene| scene.name == name) {
        return ingest::run(scene, lab).await;
    }
    match name {
        "batches" => batches::run(lab).await,
        "spool" => spool::run(lab).await,
        "workers" => workers::run(lab).await,
        "growth" => workers::growth(lab).await,
        "end-to-end" => pipeline::run(lab).await,
        "backlog" => backlog::run(lab).await,
        "large-backlog" => large_backlog::run(lab).await,
        "capture" => capture::run(lab).await,
        "cluster" => cluster::run(lab).await,
        "soak" => soak::run(lab).await,
        "tuning" => ingest::tuning(lab).await,
        "tuning-workers" => workers::tuning(lab).await,
        _ => anyhow::bail!("no such scene; there are {}", names().join(", ")),
    }
}
