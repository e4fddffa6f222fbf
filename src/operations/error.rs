//! Why an operator's request was not done.

use crate::stream::StreamError;
use crate::warehouse::WarehouseError;

/// A failed request. Texts name no content.
#[derive(Debug, thiserror::Error)]
pub enum OperationsError {
    /// There is no such entry, dead letter, order or group (any more).
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// No dead letter has that cause (any more).
    #[error(
        "no dead letter has a fingerprint that begins with these digits: `orderstream dead-letters list` shows them"
    )]
    NoSuchCause,
    /// The beginning of a fingerprint stands for more than one cause.
    #[error("more than one fingerprint begins with these digits: give more of them")]
    AmbiguousCause,
    /// The request makes no sense; the text says what would.
    #[error("{0}")]
    Invalid(&'static str),
    /// This process has no warehouse.
    #[error("this process has no warehouse: ask one that runs workers")]
    NoWarehouse,
    /// A step was cut short, by a fault of this program or the end of its process.
    #[error("the step was cut short, and may be done in part: it may be repeated")]
    CutShort,
    /// The stream does not do it.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The warehouse does not do it.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
}
