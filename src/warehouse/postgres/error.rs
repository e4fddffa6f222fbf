//! What PostgreSQL's and the driver's errors mean.
//!
//! Owns the table from SQLSTATE to [`WarehouseError`]. Invariant: no value out of a row gets into a text. That rules
//! out DETAIL always, and the primary message where the data is at fault (`invalid input syntax for type ...: "..."`).

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::migrations::KNOWN;
use crate::warehouse::WarehouseError;

/// Why a call failed, before it is said for the outside.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server or the connection.
    Driver(Error),
    /// No connection.
    Pool(PoolError),
    /// No answer within our own limit.
    Silent(Duration),
    /// The schema is at this version, below what we know.
    Outdated { schema: String, version: u32 },
    /// Nothing that waiting would change; the text says what to do.
    Operator(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl Failure {
    /// Collided with another transaction: the same again will work.
    pub(super) fn is_conflict(&self) -> bool {
        self.code().is_some_and(|code| {
            *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
        })
    }

    /// Our tables are not there.
    pub(super) fn is_schema_missing(&self) -> bool {
        self.code()
            .is_some_and(|code| *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME)
    }

    /// Whether the connection may serve the next call. Not where it leads to a server that shuts down, or that became
    /// a standby in a failover: a new connection may find the right one.
    pub(super) fn leaves_connection_sound(&self) -> bool {
        match self {
            Self::Driver(error) => error.as_db_error().is_some_and(|answer| {
                let code = answer.code().code();
                code != SqlState::READ_ONLY_SQL_TRANSACTION.code()
                    && !code.starts_with("57P")
                    && !code.starts_with("08")
            }),
            Self::Operator(_) | Self::Outdated { .. } => true,
            Self::Pool(_) | Self::Silent(_) => false,
        }
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Driver(error) | Self::Pool(PoolError::Backend(error)) => error.code(),
            Self::Pool(_) | Self::Silent(_) | Self::Outdated { .. } | Self::Operator(_) => None,
        }
    }

    /// As the outside hears it.
    pub(super) fn at(self, server: &str) -> WarehouseError {
        let message = match self {
            Self::Driver(error) | Self::Pool(PoolError::Backend(error)) => match error.as_db_error() {
                Some(answer) => return of_answer(answer, server),
                None => chain(&error),
            },
            Self::Operator(text) => return WarehouseError::Unusable(text),
            Self::Outdated { schema, version } => {
                return WarehouseError::Outdated {
                    place: format!("{server}, schema {schema}"),
                    version,
                    known: KNOWN,
                };
            }
            Self::Silent(limit) => format!("no answer within {limit:?}; whether a commit took effect is unknown"),
            Self::Pool(PoolError::Timeout(_)) => "no connection in time".to_owned(),
            Self::Pool(PoolError::Closed) => "the connection pool is closed".to_owned(),
            Self::Pool(PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
                "the connection pool does not work".to_owned()
            }
        };
        WarehouseError::Unreachable {
            server: server.to_owned(),
            message,
        }
    }
}

fn of_answer(answer: &DbError, server: &str) -> WarehouseError {
    let code = answer.code().code().to_owned();
    let class = code.get(..2).unwrap_or_default();
    let operator =
        |remedy: &str| WarehouseError::Unusable(format!("{server}: SQLSTATE {code}: {}; {remedy}", answer.message()));
    match (class, code.as_str()) {
        // 54: a key too long for its index, JSON nested too deep.
        ("22" | "23" | "54", _) => WarehouseError::Rejected {
            message: violated(answer, class),
            code: format!("SQLSTATE {code}"),
        },
        ("28", _) => operator("check user and password in the URL, and pg_hba.conf"),
        (_, "42704") => operator("the role in the database URL must be a role of that name in the database"),
        ("3D", _) => operator("create the database, or name another in the URL"),
        (_, "42501") => operator(
            "the role lacks rights: let the role that owns the schema run `orderstream migrate`, which also grants them",
        ),
        ("3F", _) | (_, "42P01" | "42703") => {
            operator("the tables are missing or older than this program: run `orderstream migrate`")
        }
        _ => WarehouseError::Unavailable {
            message: answer.message().to_owned(),
            code: format!("SQLSTATE {code}"),
        },
    }
}

/// Names of what was violated; they come from the schema, never from a row.
fn violated(answer: &DbError, class: &str) -> String {
    let mut text = match (class, answer.code()) {
        (_, &SqlState::UNTRANSLATABLE_CHARACTER | &SqlState::CHARACTER_NOT_IN_REPERTOIRE) => {
            "text with a character that PostgreSQL cannot store (U+0000)".to_owned()
        }
        ("23", _) => "a constraint is violated".to_owned(),
        ("54", _) => "a value is too large or nested too deep".to_owned(),
        _ => "a value is malformed or out of range".to_owned(),
    };
    for (what, name) in [
        ("table", answer.table()),
        ("column", answer.column()),
        ("constraint", answer.constraint()),
    ] {
        if let Some(name) = name {
            // Writing into a String cannot fail.
            let _ = write!(text, ", {what} {name}");
        }
    }
    text
}

/// The error and what caused it: the driver's own texts say only where it happened.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}
