//! Whether a body comes from Shopify: base64 HMAC-SHA256 over the raw bytes.
//!
//! Owns the secrets in use, and the count of what each verified. Invariants: it fails closed (no
//! secret, an unknown shop, a malformed value: refused); the comparison takes constant time; an
//! error never contains the expected signature.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use super::secret_usage::Usage;

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
pub struct Keyring(KeyLookup);

#[derive(Clone)]
enum KeyLookup {
    Any(Vec<Key>),
    ByShop(HashMap<String, Vec<Key>>),
}

#[derive(Clone)]
struct Key {
    mac: Hmac<Sha256>,
    usage: Usage,
}

/// Where a secret stands, and how much it is used. Of the secret itself nothing.
#[derive(Debug, Clone)]
pub struct SecretInUse<'a> {
    /// The shop it is for; `None`: all shops.
    pub shop: Option<&'a str>,
    /// Its place in the list; 0 is the newest.
    pub index: usize,
    /// What it verified.
    pub usage: &'a Usage,
}

impl Keyring {
    /// One list for all shops, newest first.
    ///
    /// # Errors
    /// Where the list or a secret is empty.
    pub fn new(secrets: &[SecretString]) -> Result<Self, InvalidKeyring> {
        prepare(secrets).map(KeyLookup::Any).map(Self)
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
        Ok(Self(KeyLookup::ByShop(lists)))
    }

    /// Goes on with the counts of `old` for secrets that stay in their list, at whatever place;
    /// those of the others begin at `now`, in Unix milliseconds.
    #[must_use]
    pub fn succeed(mut self, old: Option<&Self>, now: u64) -> Self {
        let take_over = |keys: &mut [Key], shop: Option<&str>| {
            let before = old.and_then(|old| old.list(shop)).unwrap_or_default();
            for key in keys {
                let same = before.iter().find(|old| old.is_same_secret(key));
                key.usage = same.map_or_else(|| Usage::since(now), |old| old.usage.clone());
            }
        };
        match &mut self.0 {
            KeyLookup::Any(keys) => take_over(keys, None),
            KeyLookup::ByShop(lists) => {
                for (shop, keys) in lists {
                    take_over(keys, Some(shop));
                }
            }
        }
        self
    }

    /// All secrets, by shop and then newest first.
    #[must_use]
    pub fn in_use(&self) -> Vec<SecretInUse<'_>> {
        let mut lists: Vec<(Option<&str>, &[Key])> = match &self.0 {
            KeyLookup::Any(keys) => vec![(None, keys)],
            KeyLookup::ByShop(lists) => lists
                .iter()
                .map(|(shop, keys)| (Some(shop.as_str()), &**keys))
                .collect(),
        };
        lists.sort_unstable_by_key(|(shop, _)| *shop);
        lists
            .into_iter()
            .flat_map(|(shop, keys)| {
                keys.iter().enumerate().map(move |(index, key)| SecretInUse {
                    shop,
                    index,
                    usage: &key.usage,
                })
            })
            .collect()
    }

    /// The list that is kept under just this name.
    fn list(&self, shop: Option<&str>) -> Option<&[Key]> {
        match (&self.0, shop) {
            (KeyLookup::Any(keys), None) => Some(keys),
            (KeyLookup::ByShop(lists), Some(shop)) => lists.get(shop).map(Vec::as_slice),
            (KeyLookup::Any(_), Some(_)) | (KeyLookup::ByShop(_), None) => None,
        }
    }

    /// The secrets that may verify for a shop; for any where there is one list.
    fn keys_of(&self, shop: Option<&str>) -> Option<&[Key]> {
        match &self.0 {
            KeyLookup::Any(keys) => Some(keys),
            KeyLookup::ByShop(lists) => lists.get(&shop?.to_ascii_lowercase()).map(Vec::as_slice),
        }
    }

    /// What the head of a delivery claims: the signature header's value, to be made with a secret
    /// of this shop. `shop` is the header's hint and only chooses the list: a wrong one makes the
    /// signature fail.
    ///
    /// # Errors
    /// Whatever the body is, it must not be believed.
    pub fn claim(&self, shop: Option<&str>, signature: &[u8]) -> Result<SignatureClaim<'_>, SignatureError> {
        let signature = decode(signature)?;
        let keys = self.keys_of(shop).ok_or(SignatureError::UnknownShop)?;
        Ok(SignatureClaim { keys, signature })
    }
}

/// A well-formed signature, and the secrets that may have made it.
pub struct SignatureClaim<'a> {
    keys: &'a [Key],
    signature: [u8; SIGNATURE_LEN],
}

impl SignatureClaim<'_> {
    /// Verifies it over the raw body; answers which secret of the list made it (0 is the newest).
    ///
    /// # Errors
    /// The delivery must not be believed.
    pub fn verify(&self, body: &[u8]) -> Result<usize, SignatureError> {
        self.keys
            .iter()
            .position(|key| key.makes(&self.signature, body))
            .ok_or(SignatureError::Mismatch)
    }

    /// Counts a delivery that this secret verified at that time, in Unix milliseconds.
    pub fn count(&self, secret: usize, now: u64) {
        if let Some(key) = self.keys.get(secret) {
            key.usage.count(now);
        }
    }
}

impl Key {
    fn makes(&self, signature: &[u8], body: &[u8]) -> bool {
        self.mac.clone().chain_update(body).verify_slice(signature).is_ok()
    }

    /// Told by a signature that both would make: the secrets are not kept.
    fn is_same_secret(&self, other: &Self) -> bool {
        const ANYTHING: &[u8] = b"whose secret is this?";
        let signature = other.mac.clone().chain_update(ANYTHING).finalize().into_bytes();
        self.makes(&signature, ANYTHING)
    }
}

impl fmt::Debug for SignatureClaim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim([redacted])")
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring([redacted])")
    }
}

fn prepare(secrets: &[SecretString]) -> Result<Vec<Key>, InvalidKeyring> {
    if secrets.is_empty() {
        return Err(InvalidKeyring::NoSecret);
    }
    secrets
        .iter()
        .map(|secret| match secret.expose_secret().as_bytes() {
            [] => Err(InvalidKeyring::EmptySecret),
            bytes => Ok(Key {
                mac: Hmac::new_from_slice(bytes).map_err(|_| InvalidKeyring::EmptySecret)?,
                usage: Usage::default(),
            }),
        })
        .collect()
}

/// Strict: the standard alphabet, padded, no stray bits. So there is exactly one text for a
/// signature.
fn decode(text: &[u8]) -> Result<[u8; SIGNATURE_LEN], SignatureError> {
    if text.len() != ENCODED_LEN {
        return Err(SignatureError::Malformed);
    }
    let bytes = STANDARD.decode(text).map_err(|_| SignatureError::Malformed)?;
    bytes.try_into().map_err(|_| SignatureError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verify(keyring: &Keyring, shop: Option<&str>, signature: &[u8], body: &[u8]) -> Result<usize, SignatureError> {
        keyring.claim(shop, signature)?.verify(body)
    }

    fn keyring(secrets: &[&str]) -> Keyring {
        let secrets: Vec<SecretString> = secrets.iter().map(|&secret| secret.into()).collect();
        Keyring::new(&secrets).unwrap()
    }

    const BODY: &[u8] = "{\"id\":1,\"title\":\"Cup \\u0026 Saucer \\/ Tasse à thé\"}".as_bytes();
    const SIGNATURE: &str = "dABmuXkTFf7zTlcuHJb3wlypg0QCBAl9AxBDEplhMdw=";

    /// Made with Python's `hmac`; the first is RFC 4231, case 2.
    #[test]
    fn signatures_made_elsewhere_verify() {
        for (secret, body, signature) in [
            (
                "Jefe",
                "what do ya want for nothing?".as_bytes(),
                "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=",
            ),
            ("shpss_example", BODY, SIGNATURE),
            ("shpss_example", b"", "nO0JCevJ0lvQ7nAryr7syWPsrlMkPAl+TyohyZVJIOw="),
        ] {
            assert_eq!(verify(&keyring(&[secret]), None, signature.as_bytes(), body), Ok(0));
            assert_eq!(
                verify(&keyring(&["other"]), None, signature.as_bytes(), body),
                Err(SignatureError::Mismatch)
            );
        }
    }

    #[test]
    fn every_secret_is_tried_and_named_by_its_place() {
        let keyring = keyring(&["newest", "newer", "shpss_example"]);
        assert_eq!(verify(&keyring, None, SIGNATURE.as_bytes(), BODY), Ok(2));
    }

    #[test]
    fn only_the_one_strict_form_is_a_signature() {
        let keyring = keyring(&["shpss_example"]);
        for malformed in [
            "",
            "wronghash",
            "dABmuXkTFf7zTlcuHJb3wlypg0QCBAl9AxBDEplhMdw",   // no padding
            "dABmuXkTFf7zTlcuHJb3wlypg0QCBAl9AxBDEplhMdw==", // too much of it
            "dABmuXkTFf7zTlcuHJb3wlypg0QCBAl9AxBDEplhMdx=",  // stray bits
            " dABmuXkTFf7zTlcuHJb3wlypg0QCBAl9AxBDEplhMdw=",
            "nO0JCevJ0lvQ7nAryr7syWPsrlMkPAl-TyohyZVJIOw=", // the URL alphabet
            "740066b9791315fef34e572e1c96f7c25ca98344020409", // hex
        ] {
            assert_eq!(
                verify(&keyring, None, malformed.as_bytes(), BODY),
                Err(SignatureError::Malformed),
                "{malformed}"
            );
        }
    }

    #[test]
    fn lists_by_shop_are_the_only_shops() {
        let ours = [SecretString::from("shpss_example")];
        let theirs = [SecretString::from("other")];
        let keyring =
            Keyring::by_shop([("Ours.myshopify.com", &ours[..]), ("theirs.myshopify.com", &theirs[..])]).unwrap();
        let judge = |shop| verify(&keyring, shop, SIGNATURE.as_bytes(), BODY);
        assert_eq!(judge(Some("ours.myshopify.com")), Ok(0));
        assert_eq!(judge(Some("theirs.myshopify.com")), Err(SignatureError::Mismatch));
        assert_eq!(judge(Some("nobody.myshopify.com")), Err(SignatureError::UnknownShop));
        assert_eq!(judge(None), Err(SignatureError::UnknownShop));
    }

    /// `(shop, index, deliveries, unused since)` of each.
    fn in_use(keyring: &Keyring) -> Vec<(Option<String>, usize, u64, u64)> {
        let figures = |secret: &SecretInUse<'_>| {
            let usage = secret.usage;
            let shop = secret.shop.map(str::to_owned);
            (shop, secret.index, usage.deliveries(), usage.unused_since())
        };
        keyring.in_use().iter().map(figures).collect()
    }

    #[test]
    fn counts_follow_a_secret_through_a_rotation() {
        let count = |keyring: &Keyring, secret, now| {
            keyring.claim(None, SIGNATURE.as_bytes()).unwrap().count(secret, now);
        };
        let first = keyring(&["old", "oldest"]).succeed(None, 100);
        count(&first, 0, 150);
        count(&first, 0, 160);
        assert_eq!(in_use(&first), [(None, 0, 2, 160), (None, 1, 0, 100)]);

        let second = keyring(&["new", "old"]).succeed(Some(&first), 200);
        assert_eq!(in_use(&second), [(None, 0, 0, 200), (None, 1, 2, 160)]);
        // A request that began before the exchange ends on the old keyring.
        count(&first, 0, 210);
        count(&second, 1, 220);
        assert_eq!(in_use(&second), [(None, 0, 0, 200), (None, 1, 4, 220)]);

        // What was taken out begins anew, and so does everything where the lists are others.
        let list = ["oldest".into(), "old".into()];
        let third = Keyring::by_shop([("B.example", &list[..]), ("a.example", &list[..1])]).unwrap();
        let third = third.succeed(Some(&second), 300);
        let (a, b) = (Some("a.example".to_owned()), Some("b.example".to_owned()));
        assert_eq!(in_use(&third), [(a, 0, 0, 300), (b.clone(), 0, 0, 300), (b, 1, 0, 300)]);
    }

    #[test]
    fn a_keyring_that_could_verify_nothing_or_anything_cannot_be_made() {
        assert_eq!(Keyring::new(&[]).unwrap_err(), InvalidKeyring::NoSecret);
        assert_eq!(Keyring::new(&["".into()]).unwrap_err(), InvalidKeyring::EmptySecret);
        assert_eq!(Keyring::by_shop([]).unwrap_err(), InvalidKeyring::NoSecret);
        assert_eq!(
            Keyring::by_shop([("a", &[][..])]).unwrap_err(),
            InvalidKeyring::NoSecret
        );
        assert!(!format!("{:?}", keyring(&["hush"])).contains("hush"));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_refused(
            body in prop::collection::vec(any::<u8>(), 1..400),
            secret in "[a-zA-Z0-9_]{1,80}",
            at in any::<prop::sample::Index>(),
            mask in 1..=255_u8,
        ) {
            let keyring = keyring(&[&secret]);
            let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&body);
            let signature = STANDARD.encode(mac.finalize().into_bytes()).into_bytes();
            prop_assert_eq!(verify(&keyring, None, &signature, &body), Ok(0));

            let mut changed = body.clone();
            changed[at.index(body.len())] ^= mask;
            prop_assert_eq!(verify(&keyring, None, &signature, &changed), Err(SignatureError::Mismatch));

            let mut changed = signature.clone();
            changed[at.index(signature.len())] ^= mask;
            prop_assert!(verify(&keyring, None, &changed, &body).is_err());
        }
    }
}
