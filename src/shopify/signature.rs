//! Whether a body comes from Shopify: base64 HMAC-SHA256 over the raw bytes.
//!
//! Owns the secrets in use. Invariants: it fails closed (no secret, an unknown shop, a malformed value: refused); the
//! comparison takes constant time; an error never tells what the signature should have been.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// Bytes of an HMAC-SHA256.
const SIGNATURE_LEN: usize = 32;
/// Their length in padded base64.
const ENCODED_LEN: usize = 44;

/// Why a delivery is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No signature header.
    #[error("the signature header X-Shopify-Hmac-Sha256 is missing")]
    Missing,
    /// More than one, and which one counts is anybody's guess.
    #[error("there is more than one signature header")]
    Doubled,
    /// Not base64 of 32 bytes.
    #[error("the signature is not the base64 form of 32 bytes")]
    Malformed,
    /// No secret makes this signature of this body.
    #[error("the signature does not match the body")]
    Mismatch,
    /// Secrets are kept by shop, and this shop has none.
    #[error("no secret is configured for this shop")]
    UnknownShop,
}

/// Why a keyring cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeyring {
    /// Nothing could ever verify.
    #[error("no Shopify secret is given")]
    NoSecret,
    /// Anybody can sign with an empty secret.
    #[error("a Shopify secret is empty")]
    EmptySecret,
}

/// The secrets in use, with their HMAC states prepared.
#[derive(Clone)]
pub struct Keyring(Keys);

#[derive(Clone)]
enum Keys {
    Any(Vec<Hmac<Sha256>>),
    ByShop(HashMap<String, Vec<Hmac<Sha256>>>),
}

impl Keyring {
    /// One list for all shops, newest first.
    ///
    /// # Errors
    /// Where the list or a secret is empty.
    pub fn new(secrets: &[SecretString]) -> Result<Self, InvalidKeyring> {
        prepare(secrets).map(Keys::Any).map(Self)
    }

    /// A list for each shop domain (in any case), newest first. Other shops are refused.
    ///
    /// # Errors
    /// Where there is no shop, or a list or a secret is empty.
    pub fn by_shop<'a>(lists: impl IntoIterator<Item = (&'a str, &'a [SecretString])>) -> Result<Self, InvalidKeyring> {
        let lists = lists
            .into_iter()
            .map(|(shop, secrets)| Ok((shop.to_ascii_lowercase(), prepare(secrets)?)))
            .collect::<Result<HashMap<_, _>, _>>()?;
        if lists.is_empty() {
            return Err(InvalidKeyring::NoSecret);
        }
        Ok(Self(Keys::ByShop(lists)))
    }

    /// Verifies the signature header's value over the raw body; answers which secret of the list made it (0 is the
    /// newest). `shop` is the header's hint and only chooses the list: a wrong one makes the signature fail.
    ///
    /// # Errors
    /// The delivery must not be believed.
    pub fn verify(&self, shop: Option<&str>, signature: &[u8], body: &[u8]) -> Result<usize, SignatureError> {
        let signature = decode(signature)?;
        let keys = match &self.0 {
            Keys::Any(keys) => keys,
            Keys::ByShop(lists) => shop
                .and_then(|shop| lists.get(&shop.to_ascii_lowercase()))
                .ok_or(SignatureError::UnknownShop)?,
        };
        keys.iter()
            .position(|key| key.clone().chain_update(body).verify_slice(&signature).is_ok())
            .ok_or(SignatureError::Mismatch)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring([redacted])")
    }
}

fn prepare(secrets: &[SecretString]) -> Result<Vec<Hmac<Sha256>>, InvalidKeyring> {
    if secrets.is_empty() {
        return Err(InvalidKeyring::NoSecret);
    }
    secrets
        .iter()
        .map(|secret| match secret.expose_secret().as_bytes() {
            [] => Err(InvalidKeyring::EmptySecret),
            bytes => Hmac::new_from_slice(bytes).map_err(|_| InvalidKeyring::EmptySecret),
        })
        .collect()
}

/// Strict: the standard alphabet, padded, no stray bits. So there is exactly one text for a signature.
fn decode(text: &[u8]) -> Result<[u8; SIGNATURE_LEN], SignatureError> {
    if text.len() != ENCODED_LEN {
        return Err(SignatureError::Malformed);
    }
    let bytes = STANDARD.decode(text).map_err(|_| SignatureError::Malformed)?;
    bytes.try_into().map_err(|_| SignatureError::Malformed)
}
