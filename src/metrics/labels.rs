//! Labels of the metrics, all of closed sets.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// The outcome of a request, or of one item of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the answer of the same name")]
pub enum Outcome {
    Accepted,
    Duplicate,
    Spooled,
    Quarantined,
    Invalid,
    Unauthorized,
    TooLarge,
    Timeout,
    Unavailable,
    Shed,
    Rejected,
}

impl Outcome {
    /// All of them, in order of declaration.
    pub const ALL: [Self; 11] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Spooled,
        Self::Quarantined,
        Self::Invalid,
        Self::Unauthorized,
        Self::TooLarge,
        Self::Timeout,
        Self::Unavailable,
        Self::Shed,
        Self::Rejected,
    ];
}

/// The two routes that take events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the route of the same name")]
pub enum Route {
    Webhook,
    Batch,
}

/// Label values in lower case with underscores, as Prometheus' naming guide has them.
macro_rules! label_values {
    ($kind:ty { $($value:ident => $text:literal),+ $(,)? }) => {
        impl $kind {
            /// As label values have it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }

        impl EncodeLabelValue for $kind {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                self.name().encode(encoder)
            }
        }
    };
}

label_values!(Outcome {
    Accepted => "accepted",
    Duplicate => "duplicate",
    Spooled => "spooled",
    Quarantined => "quarantined",
    Invalid => "invalid",
    Unauthorized => "unauthorized",
    TooLarge => "too_large",
    Timeout => "timeout",
    Unavailable => "unavailable",
    Shed => "shed",
    Rejected => "rejected",
});

label_values!(Route { Webhook => "webhook", Batch => "batch" });

label_values!(ApiVersionAge {
    Current => "current",
    Ending => "ending",
    Old => "old",
    Newer => "newer",
    Unknown => "unknown",
});

label_values!(Service { Stream => "stream", Warehouse => "warehouse" });

/// Labels of `orderstream_requests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct RequestLabels {
    pub route: Route,
    pub outcome: Outcome,
}

/// Labels of `orderstream_signatures_verified`: which secret, by its place in the configured list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct SecretLabels {
    pub secret: u32,
}

/// How old the version of Shopify's API is in which a delivery came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the health check `api_version` describes them")]
pub enum ApiVersionAge {
    Current,
    Ending,
    Old,
    Newer,
    Unknown,
}

/// Labels of `orderstream_api_versions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct ApiVersionLabels {
    pub version: ApiVersionAge,
}

/// Labels of `orderstream_health_check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct CheckLabels {
    pub check: &'static str,
}

/// Labels of `orderstream_partition_length` and its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct PartitionLabels {
    pub partition: u16,
}

/// The services this process connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the service of the same name")]
pub enum Service {
    Stream,
    Warehouse,
}

/// Why a node of a cluster refused a command for another's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the error of the same name")]
pub enum RedirectKind {
    Moved,
    Ask,
    Tryagain,
    Readonly,
    Down,
}

label_values!(RedirectKind {
    Moved => "moved",
    Ask => "ask",
    Tryagain => "tryagain",
    Readonly => "readonly",
    Down => "down",
});

/// Labels of `orderstream_redirects`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct RedirectLabels {
    pub kind: RedirectKind,
}

/// Labels of `orderstream_reconnects`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs, reason = "label names")]
pub struct ServiceLabels {
    pub service: Service,
}
