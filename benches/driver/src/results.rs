//! What was measured: kept as JSON from run to run, so that one scene can be repeated without the others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Figures of one trial, by name. Units: [`UNITS`].
pub type Figures = BTreeMap<String, f64>;

/// Every figure, as the head of its column.
pub const UNITS: [(&str, &str); 14] = [
    ("rate", "events/s"),
    ("p50", "p50 ms"),
    ("p99", "p99 ms"),
    ("p999", "p99.9 ms"),
    ("seconds", "seconds"),
    ("drain", "drained/s"),
    ("sustained", "committed/s"),
    ("cpu_side", "CPU s/10k side"),
    ("cpu_redis", "Redis"),
    ("cpu_postgres", "PostgreSQL"),
    ("cpu_load", "load generator"),
    ("rss", "peak RSS MB"),
    ("rss_early", "RSS MB at a tenth"),
    ("rss_end", "RSS MB at the end"),
];

/// One trial of one side.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trial {
    pub side: String,
    pub figures: Figures,
}

/// A scene's trials, in the order in which they ran.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SceneResult {
    /// On what, of which commit, and when.
    pub machine: String,
    pub trials: Vec<Trial>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    #[serde(skip)]
    file: PathBuf,
    pub scenes: BTreeMap<String, SceneResult>,
}

/// The middle, and what lies around it.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Results {
    /// What earlier runs left in `file`.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let scenes = match fs::read(file) {
            Ok(json) => serde_json::from_slice::<Self>(&json)?.scenes,
            Err(_) => BTreeMap::new(),
        };
        Ok(Self {
            file: file.to_owned(),
            scenes,
        })
    }

    /// Puts a scene's new result in the place of its old one.
    pub fn keep(&mut self, scene: &str, result: SceneResult) -> anyhow::Result<()> {
        self.scenes.insert(scene.to_owned(), result);
        fs::write(&self.file, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }

    pub fn spread(&self, scene: &str, side: &str, figure: &str) -> Option<Spread> {
        self.scenes.get(scene)?.spread(side, figure)
    }

    pub fn median(&self, scene: &str, side: &str, figure: &str) -> Option<f64> {
        self.spread(scene, side, figure).map(|spread| spread.median)
    }
}

impl SceneResult {
    /// Sides in order of their first trial.
    pub fn sides(&self) -> Vec<&str> {
        let mut sides: Vec<&str> = Vec::new();
        for trial in &self.trials {
            if !sides.contains(&trial.side.as_str()) {
                sides.push(&trial.side);
            }
        }
        sides
    }

    pub fn spread(&self, side: &str, figure: &str) -> Option<Spread> {
        let mut values: Vec<f64> = self
            .trials
            .iter()
            .filter(|trial| trial.side == side)
            .filter_map(|trial| trial.figures.get(figure).copied())
            .collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            *values.get(middle)?
        } else {
            (values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0
        };
        Some(Spread {
            median,
            least: *values.first()?,
            most: *values.last()?,
        })
    }

    /// Rounds that every side went through.
    pub fn rounds(&self) -> usize {
        let count = |side: &str| self.trials.iter().filter(|trial| trial.side == side).count();
        self.sides().into_iter().map(count).min().unwrap_or_default()
    }
}
