//! Bearer tokens and their comparison in constant time: digests are compared, which have one
//! length.

use std::fmt;

use axum::http::{HeaderMap, header};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::problem::Problem;
use crate::config::Secret;

/// The accepted tokens; without any, every request is refused.
#[derive(Clone, Default)]
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// Prepares tokens for comparison. Empty ones are left out: they would admit every request.
    #[must_use]
    pub fn new<'a>(tokens: impl IntoIterator<Item = &'a Secret>) -> Self {
        let tokens = tokens.into_iter().map(|token| token.expose_secret().as_bytes());
        Self(tokens.filter(|token| !token.is_empty()).map(digest).collect())
    }

    /// Whether the request carries one of them.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let presented = digest(bearer(headers).ok_or(Problem::InvalidToken)?);
        let known = self
            .0
            .iter()
            .fold(Choice::from(0), |known, token| known | token.ct_eq(&presented));
        if known.into() {
            Ok(())
        } else {
            Err(Problem::InvalidToken)
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens([redacted])")
    }
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The token of the only `Authorization` header; the scheme's name is case-insensitive.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn admits(tokens: &Tokens, values: &[&'static str]) -> bool {
        let values = values
            .iter()
            .map(|v| (header::AUTHORIZATION, HeaderValue::from_static(v)));
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(name, value);
        }
        tokens.admit(&headers).is_ok()
    }

    #[test]
    fn admits_exactly_the_known_tokens() {
        let tokens = Tokens::new(&["old".into(), "new".into(), "".into()]);
        assert!(admits(&tokens, &["Bearer new"]));
        assert!(admits(&tokens, &["bearer old"]));
        for refused in ["", "Bearer", "Bearer ", "Bearer ne", "Bearer new2", "Basic new", "new"] {
            assert!(!admits(&tokens, &[refused]), "{refused:?}");
        }
        assert!(!admits(&tokens, &[]));
        assert!(!admits(&tokens, &["Bearer new", "Bearer new"]));
        assert!(!admits(&Tokens::default(), &["Bearer new"]));
    }
}
