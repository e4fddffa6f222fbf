//! The settings of a process, for its operators: what holds, and where it comes from.

use serde::Serialize;

use super::layers::{Layer, LayeredValues};
use super::settings::{ALL, Fallback, Setting};

/// Every setting, in the order of the documentation.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SettingsReport {
    /// Whether the process works with secrets that it made itself.
    pub local: bool,
    /// The settings.
    pub settings: Vec<SettingReport>,
}

/// One setting as it was read at start.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "documented in openapi.yaml, field by field")]
pub struct SettingReport {
    pub name: &'static str,
    pub section: &'static str,
    pub help: &'static str,
    pub secret: bool,
    pub set: bool,
    pub value: Option<String>,
    pub derived: Option<&'static str>,
    pub origin: &'static str,
    pub file: Option<String>,
}

impl SettingsReport {
    pub(super) fn of(values: &LayeredValues, local: bool) -> Self {
        let settings = ALL.iter().map(|setting| SettingReport::of(setting, values));
        Self {
            local,
            settings: settings.collect(),
        }
    }
}

impl SettingReport {
    fn of(setting: &Setting, values: &LayeredValues) -> Self {
        let secret = setting.kind.is_secret();
        let layer = values.layer(setting);
        Self {
            name: setting.name,
            section: setting.section,
            help: setting.help,
            secret,
            set: layer.is_some(),
            value: values.text(setting).filter(|_| !secret).map(str::to_owned),
            derived: match setting.default {
                Fallback::Derived(how) if layer.is_none() => Some(how),
                Fallback::Derived(_) | Fallback::Text(_) | Fallback::Unset => None,
            },
            origin: match layer {
                Some(Layer::Flag) => "flag",
                Some(Layer::Environment) => "environment",
                Some(Layer::File) => "configuration file",
                None => "default",
            },
            file: values.file(setting).map(|path| path.display().to_string()),
        }
    }
}
