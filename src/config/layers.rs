//! What is given for each setting, by precedence: flag, environment, configuration file, default;
//! within one of these the value itself or, by `NAME_FILE`, a file with it.
//!
//! Owns the layering and the gathering of problems. Invariant: a text that it hands out was
//! accepted by its setting's kind, so that a reader of it cannot fail; what was refused is reported
//! once and counts as not given.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString as Secret;

use super::model::Inputs;
use super::settings::{ALL, CONFIG, Fallback, Setting};
use super::{file, parse};

/// A secret file larger than this is some other file.
const FILE_LIMIT: u64 = 64 << 10;

/// One thing that is wrong; never with a secret's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}; expected {expected}")]
pub struct ConfigProblem {
    /// The variable (or variables) to look at.
    pub variable: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub expected: String,
}

/// All that is wrong; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{count} {noun} in the configuration:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Flag,
    Environment,
    File,
}

struct GivenValue {
    text: String,
    layer: Layer,
    /// The file of `NAME_FILE` that it was read from.
    path: Option<PathBuf>,
}

pub(super) struct LayeredValues {
    given: BTreeMap<&'static str, GivenValue>,
    refused: BTreeSet<&'static str>,
    problems: Vec<ConfigProblem>,
}

impl LayeredValues {
    /// Reads and checks every setting, also those that this purpose does not use.
    pub(super) fn read(inputs: &Inputs) -> Self {
        let mut values = Self {
            given: BTreeMap::new(),
            refused: BTreeSet::new(),
            problems: Vec::new(),
        };
        let path = [&inputs.flags, &inputs.env]
            .into_iter()
            .find_map(|layer| value(layer, CONFIG.name));
        let (file, problems) = path.map(|path| file::read(Path::new(path))).unwrap_or_default();
        values.problems = problems;
        let layers = [
            (Layer::Flag, &*inputs.flags),
            (Layer::Environment, &*inputs.env),
            (Layer::File, &file),
        ];
        for setting in ALL {
            match layers
                .iter()
                .find_map(|(layer, names)| given(setting, *layer, names).transpose())
            {
                Some(Ok(found)) if setting.kind.accepts(&found.text) => {
                    values.given.insert(setting.name, found);
                }
                Some(Ok(found)) => {
                    let place = match (found.layer, path) {
                        (Layer::File, Some(path)) => format!(" in {path}"),
                        _ => String::new(),
                    };
                    let problem = objection(setting, &found.text) + &place;
                    values.refuse(setting, problem, setting.kind.to_string());
                }
                Some(Err(problem)) => {
                    values.refused.insert(setting.name);
                    values.problems.push(problem);
                }
                None => {}
            }
        }
        values
    }

    /// Reports a value, which from now on counts as not given.
    pub(super) fn refuse(&mut self, setting: &Setting, problem: String, expected: String) {
        self.given.remove(setting.name);
        self.refused.insert(setting.name);
        self.problems.push(ConfigProblem {
            variable: setting.name.to_owned(),
            problem,
            expected,
        });
    }

    /// Reports a contradiction, unless one of the values was refused already.
    pub(super) fn contradict(
        &mut self,
        settings: &[&Setting],
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) {
        if settings.iter().any(|setting| self.refused.contains(setting.name)) {
            return;
        }
        let names: Vec<_> = settings.iter().map(|setting| setting.name).collect();
        self.problems.push(ConfigProblem {
            variable: names.join(", "),
            problem: problem.into(),
            expected: expected.into(),
        });
    }

    /// The errors, once all that belongs together is checked.
    pub(super) fn finish(self) -> Result<(), ConfigErrors> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors(self.problems))
        }
    }

    pub(super) fn is_given(&self, setting: &Setting) -> bool {
        self.given.contains_key(setting.name)
    }

    /// Where its value comes from; `None` where it is not given.
    pub(super) fn layer(&self, setting: &Setting) -> Option<Layer> {
        self.given.get(setting.name).map(|given| given.layer)
    }

    /// The file of `NAME_FILE` that its value was read from.
    pub(super) fn file(&self, setting: &Setting) -> Option<&Path> {
        self.given.get(setting.name)?.path.as_deref()
    }

    pub(super) fn text(&self, setting: &Setting) -> Option<&str> {
        let fallback = match setting.default {
            Fallback::Text(text) => Some(text),
            Fallback::Unset | Fallback::Derived(_) => None,
        };
        self.given.get(setting.name).map(|given| &*given.text).or(fallback)
    }

    /// Text of a setting that has a default.
    pub(super) fn string(&self, setting: &Setting) -> String {
        self.text(setting).unwrap_or_default().to_owned()
    }

    pub(super) fn duration(&self, setting: &Setting) -> Duration {
        self.duration_given(setting).unwrap_or_default()
    }

    /// `None` where it is `off` or nothing holds.
    pub(super) fn duration_given(&self, setting: &Setting) -> Option<Duration> {
        self.text(setting).and_then(parse::duration)
    }

    pub(super) fn size(&self, setting: &Setting) -> usize {
        let bytes = self.text(setting).and_then(parse::size).unwrap_or_default();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    pub(super) fn count(&self, setting: &Setting) -> u64 {
        self.count_given(setting).unwrap_or_default()
    }

    pub(super) fn count_given(&self, setting: &Setting) -> Option<u64> {
        self.text(setting).and_then(parse::percent_or_whole)
    }

    pub(super) fn small(&self, setting: &Setting) -> usize {
        self.small_given(setting).unwrap_or_default()
    }

    pub(super) fn small_given(&self, setting: &Setting) -> Option<usize> {
        let count = self.count_given(setting)?;
        Some(usize::try_from(count).unwrap_or(usize::MAX))
    }

    pub(super) fn secret(&self, setting: &Setting) -> Option<Secret> {
        self.text(setting).map(Secret::from)
    }

    pub(super) fn secrets(&self, setting: &Setting) -> Vec<Secret> {
        parse::list(self.text(setting).unwrap_or_default())
            .map(Secret::from)
            .collect()
    }
}

/// What is wrong with a text that its kind does not accept; a secret is not repeated.
fn objection(setting: &Setting, text: &str) -> String {
    match setting.kind.is_secret() {
        true => "its value is not valid (not shown, it may be secret)".to_owned(),
        false => format!("`{}` is not valid", text.escape_debug()),
    }
}

/// Empty is not given.
fn value<'a>(layer: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    layer.get(name).map(String::as_str).filter(|text| !text.is_empty())
}

/// What that layer says.
fn given(
    setting: &Setting,
    layer: Layer,
    names: &BTreeMap<String, String>,
) -> Result<Option<GivenValue>, ConfigProblem> {
    let problem = |variable: &str, problem: String, expected: &str| ConfigProblem {
        variable: variable.to_owned(),
        problem,
        expected: expected.to_owned(),
    };
    let file = setting
        .file_variable()
        .and_then(|name| Some((value(names, &name)?, name)));
    let (path, name) = match (value(names, setting.name), file) {
        (Some(_), Some((_, name))) => {
            let both = format!("{name} is set too");
            return Err(problem(setting.name, both, "only one of the two"));
        }
        (Some(text), None) => {
            return Ok(Some(GivenValue {
                text: text.to_owned(),
                layer,
                path: None,
            }));
        }
        (None, Some(file)) => file,
        (None, None) => return Ok(None),
    };
    match read_file(Path::new(path)) {
        Ok(text) if text.is_empty() => Err(problem(&name, format!("{path} is empty"), "a file with the value")),
        Ok(text) => Ok(Some(GivenValue {
            text,
            layer,
            path: Some(PathBuf::from(path)),
        })),
        Err(why) => Err(problem(
            &name,
            format!("{path} {why}"),
            "a readable file with the value",
        )),
    }
}

/// Text of a small file, without surrounding space; the error says why not and never shows content.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_LIMIT {
        return Err(format!("is larger than {}", parse::show_size(FILE_LIMIT)));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text")?;
    Ok(text.trim().to_owned())
}
