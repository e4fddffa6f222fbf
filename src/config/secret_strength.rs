//! Refuses weak secrets and tokens: placeholders everywhere, short ones where an address is off
//! loopback.
//!
//! Owns what counts as a placeholder and how long a secret must be. Invariant: no value stands in a
//! problem; it is named by its setting, its shop and its place in the list.

use secrecy::{ExposeSecret, SecretString as Secret};

use super::layers::LayeredValues;
use super::model::Config;
use super::settings as s;

/// Characters that a secret has at least where others can reach the process. Shopify's have 32 or
/// more.
const MIN_CHARS: usize = 16;

const MAKE_ONE: &str = "one made by `openssl rand -hex 32`";

/// A value that consists of these words alone stands where a secret was to be filled in.
const PLACEHOLDER_WORDS: &str = "\
    123 1234 abc admin api app bar bearer change client default dummy enter example fill fixme foo from \
    goes here in insert is it key me my newest none null one older pass passwd password paste \
    placeholder previous put redacted replace sample secret secrets shopify shpss some tbd test the this \
    to todo token tokens undefined value webhook with x your";

impl Config {
    /// Reports each secret that is a placeholder, and each that is too short where an address is
    /// off loopback.
    pub(super) fn validate_secrets(&self, values: &mut LayeredValues) {
        let opens = self.purpose.ingests() || self.purpose.works();
        let is_reachable = opens && self.first_exposed_address().is_some();
        let weakness = |secret: &Secret| {
            let text = secret.expose_secret();
            let chars = text.chars().count();
            if is_placeholder(text) {
                Some("is a placeholder (not shown)".to_owned())
            } else if is_reachable && chars < MIN_CHARS {
                Some(format!(
                    "has {chars} characters, too few where an address is off loopback"
                ))
            } else {
                None
            }
        };
        let mut check = |setting: &s::Setting, of: &str, secrets: &[Secret], expected: &str| {
            for (at, secret) in secrets.iter().enumerate() {
                if let Some(weakness) = weakness(secret) {
                    let place = match secrets.len() {
                        1 => String::new(),
                        count => format!(" {} of {count}", at + 1),
                    };
                    let problem = format!("the secret{place}{of} {weakness}");
                    values.contradict(&[setting], problem, expected);
                }
            }
        };
        let signing = format!("the secret that Shopify shows or, where it is yours to choose, {MAKE_ONE}");
        let at_least = format!("{MAKE_ONE}, and of at least {MIN_CHARS} characters off loopback");
        let auth = &self.auth;
        check(&s::SHOPIFY_SECRETS, "", &auth.shopify_secrets, &signing);
        for (shop, secrets) in auth.shop_secrets.iter().flatten() {
            check(&s::SHOP_SECRETS_FILE, &format!(" for {shop}"), secrets, &signing);
        }
        check(&s::API_TOKENS, "", &auth.api_tokens, &at_least);
        check(&s::ADMIN_TOKEN, "", self.admin.token.as_slice(), &at_least);
        let forget_key = self.database.as_ref().and_then(|database| database.forget_key.as_ref());
        check(
            &s::FORGET_KEY,
            "",
            forget_key.map_or(&[], std::slice::from_ref),
            &at_least,
        );
    }
}

/// Whether the value, apart from its punctuation and case, consists of placeholder words alone, or
/// repeats one character. `...` has nothing but punctuation.
fn is_placeholder(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    let bare = bare.to_lowercase();
    let mut chars = bare.chars();
    let first = chars.next();
    let repeats = bare.chars().count() > 2 && chars.all(|c| Some(c) == first);
    repeats || consists_of_words(&bare)
}

/// Whether placeholder words, one after the other, make up the whole text.
fn consists_of_words(text: &str) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for start in 0..text.len() {
        if reached[start] {
            for word in PLACEHOLDER_WORDS.split(' ') {
                if text.as_bytes()[start..].starts_with(word.as_bytes()) {
                    reached[start + word.len()] = true;
                }
            }
        }
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_told_from_secrets() {
        for text in [
            "...",
            "***",
            "<your-secret-here>",
            "${SHOPIFY_SECRET}",
            "changeme",
            "CHANGE_ME",
            "ChangeIt",
            "secret",
            "my-secret-token",
            "Password123",
            "example",
            "xxx",
            "XXXXXXXXXXXXXXXXXXXXXXXX",
            "shpss_xxxxxxxxxxxxxxxx",
            "00000000000000000000000000000000",
            "newest",
            "previous",
            "newest secret",
            "replace-this-with-your-secret",
            "1234",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in [
            "hunter2",
            "s",
            "a secret of the tests",
            "correct horse battery staple",
            "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",
            "c0ffee0000000000c0ffee0000000000",
            "geheimer schlüssel",
        ] {
            assert!(!is_placeholder(text), "{text}");
        }
    }
}
