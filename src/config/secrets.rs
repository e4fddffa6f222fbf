//! The file of secrets by shop.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::SecretString as Secret;

use super::layers::read_file;

/// Reads the TOML file of secret lists by shop. The error never shows a line of it.
pub(super) fn by_shop(path: &Path) -> Result<BTreeMap<String, Vec<Secret>>, String> {
    let text = read_file(path).map_err(|why| format!("{} {why}", path.display()))?;
    let lists: BTreeMap<String, Vec<String>> = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!(
            "{} is not of that form at line {}",
            path.display(),
            before.matches('\n').count() + 1
        )
    })?;
    let mut shops = BTreeMap::new();
    for (shop, list) in lists {
        let secrets: Vec<_> = list
            .into_iter()
            .filter(|secret| !secret.is_empty())
            .map(Secret::from)
            .collect();
        if secrets.is_empty() {
            return Err(format!("{} has no secret for {shop}", path.display()));
        }
        if shops.insert(shop.to_ascii_lowercase(), secrets).is_some() {
            return Err(format!("{} names {shop} twice", path.display()));
        }
    }
    if shops.is_empty() {
        Err(format!("{} names no shop", path.display()))
    } else {
        Ok(shops)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn lists_by_shop_are_read_and_bad_ones_are_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shops.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            by_shop(&path)
        };
        let shops = read("\"A.myshopify.com\" = [\"new\", \"old\"]\n\"b.myshopify.com\" = [\"other\"]").unwrap();
        assert_eq!(shops["a.myshopify.com"][1].expose_secret(), "old");
        for (text, what) in [
            ("", "names no shop"),
            ("\"a\" = []", "has no secret for a"),
            ("\"a\" = [\"s3cret\"]\n\"A\" = [\"s3cret\"]", "names a twice"),
            ("\"a\" = [\"x\"]\n\"b\" = \"s3cret\"", "at line 2"),
            ("\"a\" = [s3cret]", "at line 1"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(what) && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}
