//! Why a server does not answer a capture as it must, and what its errors mean.
//!
//! Invariant: no error text holds a value of a row or a password. Of SQLSTATE classes whose
//! messages may quote a value only the code is passed on.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;

/// Stands for the name of the role, until that is known.
const ROLE: &str = "<its role>";

/// Why the source does not answer as it must.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SourceError {
    /// It cannot be reached, or the connection broke.
    #[error("the source is unreachable: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("the source refuses: {message} (SQLSTATE {code})")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// What was refused, without values.
        message: String,
    },
    /// Only an operator can change it; the text says how.
    #[error("{0}")]
    Misconfigured(String),
}

impl SourceError {
    /// What the server answered.
    pub(super) fn refused(code: &str, message: &str) -> Self {
        let may_quote = ["22", "23", "P0", "XX"].iter().any(|class| code.starts_with(class));
        let message = match code {
            _ if may_quote => "a value cannot be computed".to_owned(),
            "08P01" => format!(
                "{message}: where a pooler such as PgBouncer stands between, ORDERSTREAM_CAPTURE_DATABASE_URL must name the \
                 server itself; the pooler may be ORDERSTREAM_CAPTURE_READ_URL"
            ),
            "42501" if message.contains("row-level security") => format!(
                "{message}, and would hide orders from the capture: as a superuser, or as the administrator of a managed \
                 server, run ALTER ROLE {ROLE} BYPASSRLS"
            ),
            "42501" => format!(
                "{message}: {}`orderstream capture sql` prints what the role must be granted",
                missing_grant(message)
            ),
            _ => message.to_owned(),
        };
        Self::Refused {
            code: code.to_owned(),
            message,
        }
    }

    /// With the name of the role that was refused, for the statement to be run.
    pub(crate) fn of_role(mut self, role: &str) -> Self {
        if let Self::Refused { message, .. } = &mut self {
            *message = message.replace(ROLE, role);
        }
        self
    }

    /// Whether one order's values are at fault.
    pub(crate) fn is_poison(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code.starts_with("22"))
    }

    /// Whether the server refused with that SQLSTATE.
    pub(crate) fn is_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }

    /// Whether waiting alone does not change it.
    pub(crate) fn needs_operator(&self) -> bool {
        match self {
            Self::Misconfigured(_) => true,
            // Another process made the slot at the same moment.
            Self::Refused { code, .. } if code == "42710" => false,
            // The next connection looks what has become of it, and says what to run.
            Self::Refused { code, message } if code == "42704" && message.contains("publication") => false,
            Self::Refused { code, .. } => ["42", "28", "3D", "0A", "08P01"]
                .iter()
                .any(|class| code.starts_with(class)),
            Self::Unreachable(_) => false,
        }
    }
}

/// The statement that gives what "permission denied for ..." lacks, where that is known.
fn missing_grant(message: &str) -> String {
    let object = message.strip_prefix("permission denied for ");
    let (right, object) = match object.and_then(|object| object.split_once(' ')) {
        Some(("table" | "view", name)) => ("SELECT", name.to_owned()),
        Some(("materialized", name)) => ("SELECT", name.trim_start_matches("view ").to_owned()),
        Some(("schema", name)) => ("USAGE", format!("SCHEMA {name}")),
        _ => return String::new(),
    };
    format!("as its owner run GRANT {right} ON {object} TO {ROLE}; ")
}

impl From<io::Error> for SourceError {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        match error.as_db_error() {
            Some(answer) => Self::refused(answer.code().code(), answer.message()),
            None => {
                let cause = error.source().map(ToString::to_string);
                Self::Unreachable(cause.unwrap_or_else(|| error.to_string()))
            }
        }
    }
}
