//! Results as Markdown, written between the marks that stand for them in a document.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::goals::GOALS;
use crate::results::{Results, SceneResult, Spread, UNITS};

/// The scene that the README and the chart show.
pub const HEADLINE: &str = "single-64";

/// Writes every table that a document has marks for, of which there is a result. What was measured before and is not
/// among the results stays as it is: whole tables, and rows of the goals.
///
/// Marks are `<!-- bench:NAME -->` and `<!-- /bench -->`; NAME is a scene, `goals` or `headline`.
pub fn write(document: &Path, results: &Results) -> anyhow::Result<()> {
    let text = fs::read_to_string(document).with_context(|| document.display().to_string())?;
    let mut written = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, marked)) = rest.split_once("<!-- bench:") {
        let Some((name, after)) = marked.split_once(" -->") else {
            bail!("{}: a mark without an end", document.display());
        };
        let Some((old, after)) = after.split_once("<!-- /bench -->") else {
            bail!("{}: the mark {name} is not closed", document.display());
        };
        let new = match name {
            "goals" => Some(goals(results, old)),
            "headline" => results.scenes.get(HEADLINE).map(headline),
            _ => results.scenes.get(name).map(table),
        };
        let new = new.map_or_else(|| old.to_owned(), |table| format!("\n{table}"));
        write!(written, "{before}<!-- bench:{name} -->{new}<!-- /bench -->")?;
        rest = after;
    }
    written.push_str(rest);
    fs::write(document, written)?;
    Ok(())
}

/// The tables of some scenes, and the goals, for a terminal.
pub fn summary(results: &Results, scenes: &[String]) -> String {
    let mut text = String::new();
    for name in scenes {
        if let Some(scene) = results.scenes.get(name) {
            text += &format!("\n## {name}\n\n{}", table(scene));
        }
    }
    text + "\n## goals\n\n" + &goals(results, "")
}

/// All figures of a scene: medians, for the rate its range too.
fn table(scene: &SceneResult) -> String {
    let sides = scene.sides();
    let columns: Vec<_> = UNITS
        .iter()
        .filter(|(figure, _)| sides.iter().any(|side| scene.spread(side, figure).is_some()))
        .collect();
    let mut text = String::from("| |");
    for (_, unit) in &columns {
        text += &format!(" {unit} |");
    }
    text += &format!("\n|---|{}\n", "---:|".repeat(columns.len()));
    for side in sides {
        text += &format!("| {side} |");
        for (figure, _) in &columns {
            let cell = scene
                .spread(side, figure)
                .map_or_else(String::new, |spread| cell(figure, spread));
            text += &format!(" {cell} |");
        }
        text.push('\n');
    }
    text += &format!("\n{}\n", footing(scene));
    text
}

/// For the README: the picture, rates, and how many times the others' rates ours is.
fn headline(scene: &SceneResult) -> String {
    let ours = scene.spread("orderstream", "rate").map(|spread| spread.median);
    let mut text = String::from("![Webhooks a second by side](docs/benchmarks.svg)\n\n");
    text += "| 64 connections, 9 KB orders | webhooks/s | orderstream is |\n|---|---:|---:|\n";
    for side in scene.sides() {
        let Some(spread) = scene.spread(side, "rate") else {
            continue;
        };
        // Ours is not compared with itself under other settings.
        let ratio = match ours {
            Some(ours) if !side.starts_with("orderstream") => format!("{} × as fast", number(ours / spread.median)),
            _ => String::new(),
        };
        text += &format!("| {side} | {} | {ratio} |\n", number(spread.median));
    }
    text += &format!("\n{}\n", footing(scene));
    text
}

fn footing(scene: &SceneResult) -> String {
    let rounds = match scene.rounds() {
        1 => "One round".to_owned(),
        rounds => format!("Medians of {rounds} interleaved rounds"),
    };
    format!("{rounds}; {}.", scene.machine)
}

/// What has to hold, beside what was measured; a goal that the results cannot judge keeps its row of the `old` table.
fn goals(results: &Results, old: &str) -> String {
    let mut text = String::from("| | wanted | measured | |\n|---|---:|---:|---|\n");
    for goal in &GOALS {
        let judged = goal.judge(results);
        let row = format!("| {} | {} |", goal.says, judged.wanted);
        text += &match (judged.measured, judged.met) {
            (Some(measured), Some(true)) => format!("{row} {} | met |", number(measured)),
            (Some(measured), _) => format!("{row} {} | **missed** |", number(measured)),
            (None, _) => match old.lines().find(|line| line.starts_with(&row)) {
                Some(kept) => kept.to_owned(),
                None => format!("{row} not measured | |"),
            },
        };
        text.push('\n');
    }
    text
}

fn cell(figure: &str, spread: Spread) -> String {
    if figure == "rate" && spread.least < spread.most {
        return format!(
            "{} ({} – {})",
            number(spread.median),
            number(spread.least),
            number(spread.most)
        );
    }
    number(spread.median)
}

/// Three digits that matter, thousands apart.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Figures, Trial};

    fn results(scene: &str, sides: &[(&str, f64)]) -> Results {
        let trial = |&(side, rate): &(&str, f64)| Trial {
            side: side.to_owned(),
            figures: Figures::from([("rate".to_owned(), rate)]),
        };
        let mut results = Results::default();
        let result = SceneResult {
            machine: "a machine".to_owned(),
            trials: sides.iter().map(trial).collect(),
        };
        results.scenes.insert(scene.to_owned(), result);
        results
    }

    #[test]
    fn a_goal_that_cannot_be_judged_keeps_its_row() {
        let old = "| × the naive Rust way, 64 connections | ≥ 2.2 | 1.00 | **missed** |\n\
                   | of a bare driver's rate, one worker | ≥ 0.8 | 0.93 | met |\n\
                   | of the floor, dedupe off | ≥ 0.1 | 0.39 | met |\n";
        let results = results("single-64", &[("orderstream", 250.0), ("naive Rust", 100.0)]);
        let written = goals(&results, old);
        for row in [
            "| × the naive Rust way, 64 connections | ≥ 2.2 | 2.50 | met |",
            "| of a bare driver's rate, one worker | ≥ 0.8 | 0.93 | met |",
            // Of another bound than today's.
            "| of the floor, dedupe off | ≥ 0.5 | not measured | |",
        ] {
            assert!(written.lines().any(|line| line == row), "{row}\n{written}");
        }
    }

    #[test]
    fn others_are_compared_with_the_defaults() {
        let sides = [
            ("orderstream", 20.0),
            ("orderstream, dedupe off", 25.0),
            ("naive Rust", 16.0),
        ];
        let written = headline(&results("single-64", &sides).scenes["single-64"]);
        for row in [
            "| orderstream, dedupe off | 25.0 |  |",
            "| naive Rust | 16.0 | 1.25 × as fast |",
        ] {
            assert!(written.lines().any(|line| line == row), "{row}\n{written}");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, shown) in [
            (0.123, "0.12"),
            (9.994, "9.99"),
            (42.04, "42.0"),
            (999.6, "1,000"),
            (43_210.4, "43,210"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(number(value), shown);
        }
    }
}
