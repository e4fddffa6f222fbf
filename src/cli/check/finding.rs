//! The result of one check, with what to do about it.

use serde::Serialize;

use crate::cli::{Exit, Failure};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Warning,
    Unavailable,
    Misconfigured,
}

/// Result of one check.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// The variable or the service.
    pub(super) what: String,
    pub(super) verdict: Verdict,
    /// Its state, as a sentence.
    pub(super) detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn new(what: &str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            verdict,
            detail: detail.into(),
            remedy: None,
        }
    }

    /// What a service answered, with the verdict that the failure's exit code means.
    pub(super) fn of(what: &str, outcome: Result<String, Failure>) -> Self {
        match outcome {
            Ok(detail) => Self::new(what, Verdict::Ok, detail),
            Err(failure) => {
                let verdict = match failure.exit() {
                    Exit::Config | Exit::Usage => Verdict::Misconfigured,
                    Exit::Done | Exit::NotFound | Exit::Unavailable => Verdict::Unavailable,
                };
                Self::new(what, verdict, failure.to_string())
            }
        }
    }

    pub(super) fn remedy(self, remedy: &str) -> Self {
        Self {
            remedy: Some(remedy.to_owned()),
            ..self
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
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
