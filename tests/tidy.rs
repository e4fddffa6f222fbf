//! The house rules that no compiler knows, held by a test. Lengths of functions are clippy's (`too_many_lines`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file before its tests.
const LONGEST_FILE: usize = 400;
const LONGEST_MEDIAN: usize = 150;

/// Words that say nothing about what a thing is.
const FORBIDDEN: [&str; 9] = [
    "helper", "helpers", "manager", "util", "utils", "data", "janitor", "misc", "thing",
];
/// Names of this project's own for what Redis, PostgreSQL, hyper or Sidekiq have a term for.
const OWN_WORDS: [&str; 16] = [
    "bury",
    "bypass",
    "committer",
    "crowd",
    "desk",
    "doors",
    "keeper",
    "onlooker",
    "operated",
    "parity",
    "pulse",
    "remover",
    "revive",
    "salvage",
    "sustained",
    "witness",
];
/// What is given to us and named so: crates, their modules and methods, and the contract's `ORDERSTREAM_DATA_DIR`.
const GIVEN: [&str; 17] = [
    "DataRow",
    "body.data()",
    "SQLITE_IOERR_DATA",
    "SpanData",
    "tokio_util",
    "tzdb_data",
    "hyper_util",
    "futures_util",
    "http_body_util",
    "tracing_subscriber::util",
    "data_dir",
    "DATA_DIR",
    "data-dir",
    "into_data",
    "json_data",
    "type Data",
    "file.data",
];
/// Types that stand for one another: one is built with a feature, the other without.
const ALTERNATIVES: [&str; 1] = ["Recording"];
/// What deadpool calls that which makes connections; only for files that use it.
const DEADPOOL: [&str; 2] = ["Manager", "ManagerConfig"];

/// (who, what they must not name, save these). `who` is a prefix below `src/`.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("", &["axum::"], &["http"]),
    ("", &["redis::", "deadpool_redis::"], &["stream/redis"]),
    (
        "",
        &["tokio_postgres::", "deadpool_postgres::"],
        // A target of the log, in the second.
        &["warehouse/postgres", "postgres", "capture/source", "telemetry"],
    ),
    (
        "",
        &["rusqlite::"],
        &["sqlite", "stream/embedded", "warehouse/embedded", "import/staging"],
    ),
    (
        "",
        &[
            "\"SELECT ",
            "\"INSERT ",
            "\"UPDATE ",
            "\"DELETE ",
            "\"CREATE TABLE",
            "\"CREATE SCHEMA",
        ],
        &[
            "warehouse/",
            "sqlite",
            "stream/embedded",
            "capture/source",
            "capture/plan",
            "import/staging",
        ],
    ),
    (
        "postgres",
        &["crate::config", "crate::warehouse", "crate::capture", "crate::stream"],
        &[],
    ),
    (
        "capture",
        &[
            "crate::http",
            "crate::warehouse",
            "crate::ingest",
            "crate::operations",
            "crate::cli",
            "crate::health",
        ],
        &[],
    ),
    (
        "",
        &["crate::capture"],
        &["app", "cli", "capture", "health", "operations/capture"],
    ),
    (
        "sqlite",
        &[
            "crate::config",
            "crate::ingest",
            "crate::metrics",
            "crate::stream",
            "crate::warehouse",
        ],
        &[],
    ),
    (
        "",
        &["opentelemetry::", "opentelemetry_sdk::", "opentelemetry_otlp::"],
        &["spans"],
    ),
    (
        "spans",
        &[
            "crate::http",
            "crate::worker",
            "crate::ingest",
            "crate::stream",
            "crate::warehouse",
        ],
        &[],
    ),
    ("", &["tokio::spawn("], &[]),
    ("", &["crate::app"], &["cli"]),
    ("", &["crate::cli"], &["cli"]),
    ("http", &["crate::warehouse", "crate::worker"], &[]),
    (
        "operations",
        &["crate::http", "crate::cli", "crate::app", "crate::worker"],
        &[],
    ),
    // A trace and `forget` look into the spool.
    (
        "operations",
        &["crate::ingest"],
        &["operations/context", "operations/forget", "operations/trace"],
    ),
    ("worker", &["crate::operations"], &[]),
    ("ingest", &["crate::operations"], &[]),
    (
        "live",
        &[
            "crate::http",
            "crate::cli",
            "crate::app",
            "crate::worker",
            "crate::ingest",
            "crate::shopify",
        ],
        &[],
    ),
    ("http", &["crate::operations"], &["http/admin", "http/state"]),
    ("worker", &["crate::http", "crate::ingest", "crate::shopify"], &[]),
    (
        "ingest",
        &["crate::http", "crate::worker", "crate::warehouse", "crate::shopify"],
        &[],
    ),
    (
        "stream",
        &[
            "crate::http",
            "crate::worker",
            "crate::warehouse",
            "crate::ingest",
            "crate::shopify",
        ],
        &[],
    ),
    (
        "warehouse",
        &[
            "crate::http",
            "crate::worker",
            "crate::stream",
            "crate::ingest",
            "crate::shopify",
        ],
        &[],
    ),
    (
        "shopify",
        &[
            "crate::http",
            "crate::worker",
            "crate::warehouse",
            "crate::ingest",
            "crate::config",
        ],
        &[],
    ),
    (
        "shopify_admin",
        &[
            "crate::http",
            "crate::worker",
            "crate::capture",
            "crate::operations",
            "crate::app",
            "crate::health",
        ],
        &[],
    ),
    ("", &["crate::shopify_admin"], &["app", "cli", "shopify_admin"]),
    (
        "health",
        &["crate::http", "crate::worker", "crate::warehouse", "crate::shopify"],
        &[],
    ),
    (
        "nodes",
        &[
            "crate::http",
            "crate::worker",
            "crate::warehouse",
            "crate::ingest",
            "crate::shopify",
            "crate::health",
            "crate::operations",
            "crate::app",
        ],
        &[],
    ),
    (
        "import",
        &[
            "crate::http",
            "crate::worker",
            "crate::warehouse",
            "crate::ingest",
            "crate::stream",
            "crate::operations",
            "crate::config",
        ],
        &[],
    ),
    ("event", &["crate::"], &["event"]),
    ("retryability", &["crate::"], &[]),
    ("folder", &["crate::"], &[]),
    ("sample_orders", &["crate::"], &[]),
    ("metrics", &["crate::"], &[]),
    ("shutdown", &["crate::"], &[]),
    ("traceparent", &["crate::"], &[]),
];

/// One source file: its path below `src/`, and its text up to its tests.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        walk(&root, &mut files);
        assert!(files.len() > 20, "src/ was not found");
        let read = |file: &PathBuf| Self {
            path: file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
            text: fs::read_to_string(file)
                .unwrap()
                .split("#[cfg(test)]\nmod ")
                .next()
                .unwrap()
                .to_owned(),
        };
        files.iter().map(read).collect()
    }

    /// Whether the file is `prefix.rs`, in the folder `prefix`, or anywhere for "".
    fn is_in(&self, prefix: &str) -> bool {
        match self.path.strip_prefix(prefix) {
            Some(rest) => prefix.is_empty() || prefix.ends_with('/') || rest.starts_with('/') || rest == ".rs",
            None => false,
        }
    }

    /// Lines of code with their numbers; comments are left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(number, line)| (number + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Fails with all that was found.
fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Whether `line` names `path` from its root: `redis::x`, but not `stream::redis::x` or `my_redis::x`.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before == ':' || before == '_' || before.is_alphanumeric())
    })
}

/// `snake_case` and `CamelCase` taken apart.
fn words(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in identifier.chars() {
        if letter == '_' || (letter.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = letter.is_lowercase();
        if letter != '_' {
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
    }
    words
}

#[test]
fn arrows_point_one_way() {
    let mut found = Vec::new();
    for source in Source::all() {
        for (who, what, save) in ARROWS {
            if !source.is_in(who) || save.iter().any(|save| source.is_in(save)) {
                continue;
            }
            for (number, line) in source.code() {
                let named = what.iter().filter(|what| names(line, what));
                found.extend(named.map(|named| format!("{}:{number} names {named}", source.path)));
            }
        }
    }
    none(&found);
}

#[test]
fn files_are_short_and_say_what_they_own() {
    let sources = Source::all();
    let mut found = Vec::new();
    let mut lengths = Vec::new();
    for source in &sources {
        let length = source.text.lines().count();
        lengths.push(length);
        if length > LONGEST_FILE {
            found.push(format!(
                "{} has {length} lines before its tests, more than {LONGEST_FILE}",
                source.path
            ));
        }
        if !source.text.starts_with("//! ") {
            found.push(format!("{} does not begin with what it owns (`//!`)", source.path));
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    if median > LONGEST_MEDIAN {
        found.push(format!(
            "half of the files have more than {median} lines; {LONGEST_MEDIAN} is the rule"
        ));
    }
    none(&found);
}

#[test]
fn names_say_something() {
    let mut found = Vec::new();
    let is_refused = |word: &str| FORBIDDEN.contains(&word) || OWN_WORDS.contains(&word);
    let says_nothing = |name: &str| words(name).iter().any(|word| is_refused(word));
    for source in Source::all() {
        if source.path.trim_end_matches(".rs").split('/').any(says_nothing) {
            found.push(format!("{} is named with a forbidden word", source.path));
        }
        let uses_deadpool = source.text.contains("use deadpool_");
        for (number, line) in source.code() {
            // Every second part is the inside of a string, which may quote anything.
            let mut code: String = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
            for given in GIVEN {
                code = code.replace(given, "");
            }
            for name in code.split(|letter: char| !letter.is_alphanumeric() && letter != '_') {
                if says_nothing(name) && !(uses_deadpool && DEADPOOL.contains(&name)) {
                    found.push(format!("{}:{number} says {name}", source.path));
                }
            }
        }
    }
    none(&found);
}

/// The name of a type that this line defines.
fn defined_type(line: &str) -> Option<&str> {
    let line = match line.trim_start().strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1,
        Some(rest) => rest,
        // An indented `type` is associated with a trait.
        None if line.starts_with("type ") => line,
        None => line.trim_start().trim_start_matches("type "),
    };
    let (keyword, rest) = line.trim_start().split_once(' ')?;
    let name = rest.split(|letter: char| !letter.is_alphanumeric()).next()?;
    ["struct", "enum", "trait", "type"].contains(&keyword).then_some(name)
}

#[test]
fn a_type_name_has_one_meaning() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in Source::all() {
        for (number, line) in source.code() {
            if let Some(name) = defined_type(line).filter(|name| !ALTERNATIVES.contains(name)) {
                let place = format!("{}:{number}", source.path);
                places.entry(name.to_owned()).or_default().push(place);
            }
        }
    }
    let doubled = places.iter().filter(|(_, places)| places.len() > 1);
    none(&Vec::from_iter(doubled.map(|(name, places)| {
        format!("{name} is defined at {}", places.join(" and "))
    })));
}

#[test]
fn the_rules_can_be_broken() {
    assert_eq!(words("OrderManager"), ["order", "manager"]);
    assert_eq!(words("ORDER_UTILS"), ["order", "utils"]);
    assert!(names("use redis::Client;", "redis::"));
    assert!(!names("use crate::stream::redis::RedisStream;", "redis::"));
    assert!(!names("use deadpool_redis::Pool;", "redis::"));
    assert_eq!(defined_type("pub(super) struct Page<'a> {"), Some("Page"));
    assert_eq!(defined_type("    enum Way {"), Some("Way"));
    assert_eq!(defined_type("type Swap = Box<dyn FnOnce()>;"), Some("Swap"));
    assert_eq!(defined_type("    type Error = Infallible;"), None);
    let source = |path: &str| Source {
        path: path.to_owned(),
        text: String::new(),
    };
    assert!(source("http.rs").is_in("http") && source("http/body.rs").is_in("http") && source("x.rs").is_in(""));
    assert!(!source("https/body.rs").is_in("http"));
}
