//! What `scripts/bench` starts: runs scenes, keeps their results, writes them into the documentation.
//!
//! Everything is on one machine and takes turns within a round, so that what the machine does meanwhile meets all
//! sides alike. `docs/BENCHMARKS.md` tells what each scene is for and how to read it.
#![recursion_limit = "256"]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts and times of a benchmark are far from any bound"
)]

mod chart;
mod goals;
mod http;
mod lab;
mod load;
mod machine;
mod orders;
mod postgres;
mod process;
mod redis;
mod report;
mod results;
mod scenes;
mod sides;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::lab::{Lab, Plan};
use crate::results::{Results, SceneResult};
use crate::sides::Programs;

/// Measures orderstream beside its alternatives.
#[derive(Parser)]
struct Args {
    /// Only these scenes (repeat it); all without it.
    #[arg(long = "scene", value_name = "NAME")]
    scenes: Vec<String>,
    /// One short round with small backlogs: shows that everything runs, measures nothing.
    #[arg(long)]
    quick: bool,
    /// Interleaved rounds; fewer where a scene takes minutes for each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of one trial.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Print the names of all scenes.
    #[arg(long)]
    list: bool,
    /// Write the results kept so far into docs/BENCHMARKS.md, README.md, docs/benchmarks.svg and docs/cluster.svg.
    #[arg(long)]
    write: bool,
    /// The repository.
    #[arg(long, default_value = ".", hide = true)]
    root: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.list {
        scenes::names().iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let root = args.root.canonicalize()?;
    let scratch = root.join("target/bench");
    std::fs::create_dir_all(&scratch)?;
    // What a quick run shows is nothing to be kept.
    let file = scratch.join(if args.quick { "quick.json" } else { "results.json" });
    let mut results = Results::open(&file)?;
    if args.write {
        return write(&root, &results);
    }
    let lab = Lab {
        programs: Programs {
            orderstream: root.join("target/dist/orderstream"),
            release: root.join("target/release"),
            python: scratch.join("python"),
            fastapi: root.join("benches/rivals/fastapi"),
            fastify: scratch.join("fastify"),
            rivals: root.join("benches/rivals"),
            scratch,
        },
        plan: plan(&args),
    };
    let machine = machine::describe(&root);
    eprintln!("{machine}");
    let chosen: Vec<String> = match args.scenes.is_empty() {
        true => scenes::names().into_iter().map(str::to_owned).collect(),
        false => args.scenes,
    };
    let mut failed: Vec<&str> = Vec::new();
    for name in &chosen {
        eprintln!("{name}");
        let trials = tokio::select! {
            trials = scenes::run(name, &lab) => trials,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        };
        let machine = machine.clone();
        match trials {
            Ok(trials) => results.keep(name, SceneResult { machine, trials })?,
            // The others are not to be had again for nothing.
            Err(error) => {
                eprintln!("scene {name} failed: {error:#}");
                failed.push(name);
            }
        }
    }
    println!("{}", report::summary(&results, &chosen));
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn plan(args: &Args) -> Plan {
    if args.quick {
        return Plan {
            rounds: 1,
            warm_up: Duration::from_millis(300),
            measured: Duration::from_secs(2),
            shrink: 50,
        };
    }
    Plan {
        rounds: args.rounds,
        warm_up: Duration::from_secs(1),
        measured: Duration::from_secs(args.seconds),
        shrink: 1,
    }
}

fn write(root: &std::path::Path, results: &Results) -> anyhow::Result<()> {
    report::write(&root.join("docs/BENCHMARKS.md"), results)?;
    report::write(&root.join("README.md"), results)?;
    if let Some(scene) = results.scenes.get(report::HEADLINE) {
        let title = "Webhooks a second: verified, in Redis, then answered (64 connections, 2 cores for everything)";
        chart::draw(&root.join("docs/benchmarks.svg"), title, scene)?;
    }
    if let Some(scene) = results.scenes.get("cluster") {
        let title = "Events a second by primaries of a Redis Cluster, each held to a twentieth of a core";
        chart::draw(&root.join("docs/cluster.svg"), title, scene)?;
    }
    Ok(())
}
