//! Why JSON was not read, and where.
//!
//! Owns the text of what was expected, in which nothing that was met is repeated.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

/// Why JSON was not read. Small, since the result of every step holds it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// Not JSON, nested too deeply, or a number or text that nothing can hold.
    #[error("not JSON")]
    Syntax,
    /// A value that is not as `T` needs it.
    #[error("{}", .0.problem)]
    Mismatch(Box<Mismatch>),
}

/// A value that is not as it must be.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// What was expected. Never what was met.
    pub(super) problem: String,
    /// Where the value begins; bytes.
    pub(super) at: usize,
    /// The way to it, from the innermost name or index outwards.
    path: Vec<Step>,
}

/// A step of the way to a value.
#[derive(Debug)]
pub(super) enum Step {
    Member(String),
    Element(usize),
}

impl Mismatch {
    /// Path of the field, `line_items[2].price`; empty where it is the JSON as a whole.
    pub(super) fn field(&self) -> String {
        let mut field = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Member(name) if field.is_empty() => field.push_str(name),
                Step::Member(name) => field.extend([".", name]),
                Step::Element(index) => field.push_str(&format!("[{index}]")),
            }
        }
        field
    }
}

impl ReadError {
    /// The same, of what stands there in an object or a list.
    #[cold]
    pub(super) fn within(self, step: Step, at: usize) -> Self {
        let Self::Mismatch(mut mismatch) = self else {
            return self;
        };
        if mismatch.path.is_empty() {
            mismatch.at = at;
        }
        mismatch.path.push(step);
        Self::Mismatch(mismatch)
    }

    /// Where the value begins is told by what holds it.
    #[cold]
    fn mismatch(problem: String) -> Self {
        Self::mismatch_at(0, problem)
    }

    #[cold]
    pub(super) fn mismatch_at(at: usize, problem: String) -> Self {
        let path = Vec::new();
        Self::Mismatch(Box::new(Mismatch { problem, at, path }))
    }
}

/// What a type says of a value that it cannot be made of, without the value.
impl de::Error for ReadError {
    #[cold]
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::mismatch(super::problem(&text.to_string()))
    }

    #[cold]
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::mismatch(format!("expected {expected}"))
    }

    #[cold]
    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::mismatch(format!("expected {expected}"))
    }
}
