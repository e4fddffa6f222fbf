//! Why the Admin API did not answer as it should. Texts say what to do about it.

use std::fmt::Write as _;

/// A failure of the Admin API of one shop; never with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The token, the app or the shop is refused.
    #[error("no access to the Admin API of {shop}: {why}")]
    Denied {
        /// Domain of the shop.
        shop: String,
        /// What to do about it.
        why: String,
    },
    /// The app was not granted what is read.
    #[error(
        "the app lacks the access scope {}; grant it in a new version of the app, and install that on {shop}",
        scopes.join(", ")
    )]
    MissingScopes {
        /// Domain of the shop.
        shop: String,
        /// The scopes it lacks; never empty.
        scopes: Vec<String>,
    },
    /// The token is of another shop.
    #[error("the access token is for {found}, not for {shop}: correct the shop's domain, or its token")]
    OtherShop {
        /// Domain that is configured.
        shop: String,
        /// The domain that Shopify names.
        found: String,
    },
    /// The version is not supported, and another one would answer in its place.
    #[error(
        "Shopify does not support version {asked} of the Admin API; set ORDERSTREAM_SHOPIFY_API_VERSION to one of {}",
        supported.join(", ")
    )]
    Version {
        /// The version that is configured.
        asked: String,
        /// Those that are supported.
        supported: Vec<String>,
    },
    /// The token's file cannot be read, or the client cannot be made.
    #[error("{0}")]
    Unusable(String),
    /// No answer, or none for now, after all retries.
    #[error("the Admin API of {shop} is unavailable: {why}")]
    Unavailable {
        /// Domain of the shop.
        shop: String,
        /// The last failure.
        why: String,
    },
    /// A query costs more points than one may: ask for less at a time.
    #[error("the query {document} costs more points than Shopify allows for one")]
    TooCostly {
        /// Name of the document.
        document: &'static str,
    },
    /// Shopify answers with errors of its own, which are shown as they are.
    #[error("Shopify refuses the query {document}: {why}")]
    Refused {
        /// Name of the document.
        document: &'static str,
        /// Its words.
        why: String,
    },
}

impl AdminError {
    /// Whether it stays until the configuration, the app or its scopes are changed.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Denied { .. }
            | Self::MissingScopes { .. }
            | Self::OtherShop { .. }
            | Self::Version { .. }
            | Self::Unusable(_) => true,
            Self::Unavailable { .. } | Self::TooCostly { .. } | Self::Refused { .. } => false,
        }
    }
}

/// An error of reqwest without the address, which may name a proxy's credentials, and with its causes.
pub(super) fn text(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
