//! What PostgreSQL's and the driver's errors mean.
//!
//! Owns the table from SQLSTATE to [`WarehouseError`]. Invariant: no value out of a row gets into a
//! text. DETAIL and the primary message may hold one (`invalid input syntax for type ...: "..."`,
//! whatever a trigger raises), so that only SQLSTATE, names from the schema and our own words are
//! used; what a server says to a new connection is its own.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::warehouse::WarehouseError;
use crate::warehouse::migration::SchemaFault;

/// Why a call failed, before it is said for the outside.
#[derive(Debug)]
pub(super) enum PostgresError {
    /// The server or the connection.
    Driver(Error),
    /// No connection.
    Pool(PoolError),
    /// No answer within our own limit.
    Silent(Duration),
    /// The schema of that name is none that we can load into.
    Schema { schema: String, fault: SchemaFault },
    /// Nothing that waiting would change; the text says what to do.
    Operator(String),
}

impl From<Error> for PostgresError {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl PostgresError {
    /// Collided with another transaction: the same again will work.
    pub(super) fn is_conflict(&self) -> bool {
        self.code().is_some_and(|code| {
            *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
        })
    }

    /// Our tables are not there. (A table that a trigger misses is none of ours.)
    pub(super) fn is_schema_missing(&self) -> bool {
        self.answer().is_some_and(|answer| {
            let code = answer.code();
            let is_missing = *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME;
            is_missing && answer.where_().is_none()
        })
    }

    /// Whether the connection may serve the next call. Not where it leads to a server that shuts
    /// down, or that became a standby in a failover: a new connection may find the right one.
    pub(super) fn leaves_connection_sound(&self) -> bool {
        match self {
            Self::Driver(error) => error.as_db_error().is_some_and(|answer| {
                let code = answer.code().code();
                code != SqlState::READ_ONLY_SQL_TRANSACTION.code()
                    && !code.starts_with("57P")
                    && !code.starts_with("08")
            }),
            Self::Operator(_) | Self::Schema { .. } => true,
            Self::Pool(_) | Self::Silent(_) => false,
        }
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Driver(error) | Self::Pool(PoolError::Backend(error)) => error.code(),
            Self::Pool(_) | Self::Silent(_) | Self::Schema { .. } | Self::Operator(_) => None,
        }
    }

    fn answer(&self) -> Option<&DbError> {
        match self {
            Self::Driver(error) => error.as_db_error(),
            Self::Pool(_) | Self::Silent(_) | Self::Schema { .. } | Self::Operator(_) => None,
        }
    }

    /// As the outside hears it.
    pub(super) fn at(self, server: &str) -> WarehouseError {
        let message = match self {
            Self::Driver(error) => match error.as_db_error() {
                Some(answer) => return of_answer(answer, server),
                None if is_unsendable(&error) => {
                    return WarehouseError::Rejected {
                        code: "not sent".to_owned(),
                        message: format!("{error}: a value that the protocol cannot carry"),
                    };
                }
                None => chain(&error),
            },
            Self::Pool(PoolError::Backend(error)) => match error.as_db_error() {
                Some(answer) => return of_greeting(answer, server),
                None => chain(&error),
            },
            Self::Operator(text) => return WarehouseError::Unusable(text),
            Self::Schema { schema, fault } => return fault.at(format!("{server}, schema {schema}")),
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

/// What the server said to a connection that was being made.
fn of_greeting(answer: &DbError, server: &str) -> WarehouseError {
    let code = answer.code().code();
    let said = format!("{server}: SQLSTATE {code}: {}", answer.message());
    let operator = |remedy: &str| WarehouseError::Unusable(format!("{said}; {remedy}"));
    match (code.get(..2).unwrap_or_default(), code) {
        ("28", _) => operator("check user and password in the URL, and pg_hba.conf"),
        (_, "42704") => operator("the role in the database URL must be a role of that name in the database"),
        ("3D", _) => operator("create the database, or name another in the URL"),
        (_, "42501") => operator("the role may not connect to this database: grant it CONNECT"),
        _ => WarehouseError::Unavailable {
            code: format!("SQLSTATE {code}"),
            message: answer.message().to_owned(),
        },
    }
}

fn of_answer(answer: &DbError, server: &str) -> WarehouseError {
    let code = answer.code().code().to_owned();
    let class = code.get(..2).unwrap_or_default();
    let operator = |remedy: &str| {
        let names = names(answer);
        WarehouseError::Unusable(format!("{server}: SQLSTATE {code}{names}; {remedy}"))
    };
    let in_function = answer.where_().is_some();
    match (class, code.as_str()) {
        // 54: a key too long for its index, JSON nested too deep.
        ("22" | "23" | "54", _) => WarehouseError::Rejected {
            message: violated(answer, class),
            code: format!("SQLSTATE {code}"),
        },
        ("08" | "25" | "40" | "53" | "55" | "57" | "58" | "F0", _) => WarehouseError::Unavailable {
            message: surroundings(&code).to_owned(),
            code: format!("SQLSTATE {code}"),
        },
        // What fails in a function (a trigger) may concern this row alone.
        _ if in_function => refused(answer, "a trigger or a function fails"),
        ("28", _) => operator("check user and password in the URL, and pg_hba.conf"),
        (_, "42704") => operator("the role in the database URL must be a role of that name in the database"),
        ("3D", _) => operator("create the database, or name another in the URL"),
        (_, "42501") => operator(
            "the role lacks rights: let the role that owns the schema run `orderstream migrate`, which also grants them",
        ),
        ("3F", _) | (_, "42P01" | "42703") => {
            operator("the tables are missing or older than this program: run `orderstream migrate`")
        }
        _ => refused(answer, "the statement fails"),
    }
}

fn refused(answer: &DbError, what: &str) -> WarehouseError {
    WarehouseError::Refused {
        code: format!("SQLSTATE {}", answer.code().code()),
        message: format!("{what}{}; its message stands in PostgreSQL's log", names(answer)),
    }
}

/// What a SQLSTATE says of the surroundings.
fn surroundings(code: &str) -> &'static str {
    match (code.get(..2).unwrap_or_default(), code) {
        (_, "25006") => "the server takes no writes (a standby, or read-only)",
        (_, "40P01") => "a deadlock with another transaction",
        ("40", _) => "a collision with another transaction",
        (_, "53100") => "the server's disk is full",
        (_, "53200") => "the server is out of memory",
        (_, "53300") => "the server has too many connections",
        ("53", _) => "the server lacks resources",
        (_, "55P03") => "a lock was not free in time",
        (_, "57014") => "the statement took too long, or was canceled",
        ("57", _) => "the server ends the connection, starts or stops",
        ("58", _) => "a system error on the server",
        _ => "the connection or the transaction is not as it must be",
    }
}

/// Names of what was violated; they come from the schema, never from a row.
fn violated(answer: &DbError, class: &str) -> String {
    let text = match (class, answer.code()) {
        (_, &SqlState::UNTRANSLATABLE_CHARACTER | &SqlState::CHARACTER_NOT_IN_REPERTOIRE) => {
            "text with a character that PostgreSQL cannot store (U+0000)".to_owned()
        }
        ("23", _) => "a constraint is violated".to_owned(),
        ("54", _) => "a value is too large or nested too deep".to_owned(),
        _ => "a value is malformed or out of range".to_owned(),
    };
    text + &names(answer)
}

/// Names that the server gives beside its message. A trigger may set them as it likes: only what
/// looks like a name is one.
fn names(answer: &DbError) -> String {
    let mut text = String::new();
    for (what, name) in [
        ("table", answer.table()),
        ("column", answer.column()),
        ("constraint", answer.constraint()),
        ("function", answer.where_().and_then(function)),
    ] {
        if let Some(name) = name.filter(|name| is_name(name)) {
            // Writing into a String cannot fail.
            let _ = write!(text, ", {what} {name}");
        }
    }
    text
}

/// The innermost function of an error's context (`PL/pgSQL function public.refuse() line 3 at
/// RAISE`), without arguments.
fn function(context: &str) -> Option<&str> {
    let rest = context.strip_prefix("PL/pgSQL function ")?;
    rest.split_once('(').map(|(name, _)| name)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 130
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.'))
}

/// Whether a parameter could not be written in the protocol's form.
fn is_unsendable(error: &Error) -> bool {
    error.to_string().starts_with("error serializing parameter")
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
