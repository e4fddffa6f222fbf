//! The extractor of a verified delivery: the only way to the body of a webhook.

use std::time::SystemTime;

use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use bytes::Bytes;

use super::body::{self, BodyBounds, WholeBody};
use super::problem::Problem;
use super::state::PublicState;
use crate::ingest::SharedPermit;
use crate::shopify::{self, DeliveryHints};

/// A webhook whose body Shopify signed. It is made only by extraction, so no handler gets an
/// unverified body.
#[derive(Debug)]
pub(super) struct VerifiedDelivery {
    headers: HeaderMap,
    body: WholeBody,
}

impl VerifiedDelivery {
    /// The signed bytes.
    pub(super) fn body(&self) -> &Bytes {
        &self.body.bytes
    }

    /// The body's permit of the memory budget.
    pub(super) fn permit(&self) -> &SharedPermit {
        &self.body.permit
    }

    /// What the headers claim; not signed.
    pub(super) fn hints(&self) -> DeliveryHints<'_> {
        DeliveryHints::new(&self.headers)
    }
}

impl FromRequest<PublicState> for VerifiedDelivery {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &PublicState) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        // What the head alone rules out is refused before the body takes memory.
        let keyring = state.credentials.keyring.load_full().ok_or(Problem::InvalidSignature)?;
        let shop = shopify::shop(headers);
        let claim = shopify::signature(headers)
            .and_then(|signature| keyring.claim(shop.as_deref(), signature))
            .map_err(refused)?;
        let bounds = BodyBounds {
            admission: &state.admission,
            is_verified: false,
            connection: parts.extensions.get(),
            limit: state.intake.body_limit,
            timeout: state.body_timeout,
        };
        let body = body::read(body, headers, bounds).await?;
        let secret = claim.verify(&body.bytes).map_err(refused)?;
        state.signatures.count(secret);
        claim.count(secret, unix_millis());
        Ok(Self {
            headers: parts.headers,
            body,
        })
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The caller learns only that it was refused; the log has the reason.
fn refused(reason: shopify::SignatureError) -> Problem {
    tracing::debug!(%reason, "a webhook failed verification");
    Problem::InvalidSignature
}
