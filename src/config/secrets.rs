//! Who may send: webhook secrets, tokens, and the file of shops, which also has the shops' access to
//! the Admin API.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::SecretString as Secret;
use serde::Deserialize;

use super::layers::{LayeredValues, read_file};
use super::settings as s;
use super::shopify::AdminAccess;

/// Who may send. Empty means: nobody, that door is closed.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// Each verifies a webhook of any shop; newest first.
    pub shopify_secrets: Vec<Secret>,
    /// Secrets by shop domain (lower case), newest first. Where it is there, only these shops are
    /// accepted, and `shopify_secrets` verifies nothing.
    pub shop_secrets: Option<BTreeMap<String, Vec<Secret>>>,
    /// Bearer tokens of `/events/batch`.
    pub api_tokens: Vec<Secret>,
}

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Shops {
    /// Webhook secrets by shop, newest first.
    pub(super) secrets: BTreeMap<String, Vec<Secret>>,
    /// Access to the Admin API, of the shops that have it.
    pub(super) access: BTreeMap<String, AdminAccess>,
}

/// One `[shops."example.myshopify.com"]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShopTable {
    #[serde(default)]
    secrets: Vec<String>,
    admin_token: Option<String>,
    admin_token_file: Option<PathBuf>,
    client_id: Option<String>,
    client_secret: Option<String>,
}

impl ShopTable {
    /// `Err` where it is not one way to get a token.
    fn access(&self) -> Result<Option<AdminAccess>, ()> {
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        match (
            text(&self.admin_token),
            &self.admin_token_file,
            text(&self.client_id),
            text(&self.client_secret),
        ) {
            (None, None, None, None) => Ok(None),
            (Some(token), None, None, _) => Ok(Some(AdminAccess::Token(token.into()))),
            (None, Some(file), None, _) => Ok(Some(AdminAccess::TokenFile(file.clone()))),
            (None, None, Some(id), Some(secret)) => Ok(Some(AdminAccess::ClientCredentials {
                id,
                secret: secret.into(),
            })),
            _ => Err(()),
        }
    }
}

fn file(values: &mut LayeredValues) -> Option<Shops> {
    let path = values.text(&s::SHOP_SECRETS_FILE).map(PathBuf::from)?;
    let refuse = |why| {
        let form = "a TOML file of lines like \"example.myshopify.com\" = [\"newest secret\", \"older one\"]";
        values.refuse(&s::SHOP_SECRETS_FILE, why, form.to_owned());
    };
    by_shop(&path).map_err(refuse).ok()
}

/// Access to the Admin API by shop, and who may send.
pub(super) fn auth(values: &mut LayeredValues) -> (BTreeMap<String, AdminAccess>, AuthConfig) {
    let (access, shop_secrets) = file(values).map(|shops| (shops.access, shops.secrets)).unzip();
    let auth = AuthConfig {
        shopify_secrets: values.secrets(&s::SHOPIFY_SECRETS),
        shop_secrets,
        api_tokens: values.secrets(&s::API_TOKENS),
    };
    (access.unwrap_or_default(), auth)
}

/// Reads the TOML file of shops. The error never shows a line of it.
pub(super) fn by_shop(path: &Path) -> Result<Shops, String> {
    let text = read_file(path).map_err(|why| format!("{} {why}", path.display()))?;
    let at_line = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("{} is not of that form at line {line}", path.display())
    };
    let members: BTreeMap<String, toml::Spanned<toml::Value>> =
        toml::from_str(&text).map_err(|error| at_line(error.span().map_or(0, |span| span.start)))?;
    let mut shops = Shops::default();
    let mut tables = toml::Table::new();
    for (shop, member) in members {
        let at = member.span().start;
        let member = member.into_inner();
        match member.as_table() {
            Some(table) if shop == "shops" => tables.clone_from(table),
            _ => shops.add(path, &shop, member.try_into().map_err(|_| at_line(at))?)?,
        }
    }
    for (shop, table) in tables {
        let form = || {
            let expected = "`secrets`, and `admin_token`, `admin_token_file`, or `client_id` with `client_secret`";
            format!("{}: [shops.\"{shop}\"] may hold {expected}", path.display())
        };
        let table: ShopTable = table.try_into().map_err(|_| form())?;
        if let Some(access) = table.access().map_err(|()| form())? {
            shops.access.insert(shop.to_ascii_lowercase(), access);
        }
        let is_listed = shops.secrets.contains_key(&shop.to_ascii_lowercase());
        match (table.secrets.is_empty(), table.client_secret) {
            (true, _) if is_listed => {}
            // Shopify signs an app's webhooks with its client secret.
            (true, Some(secret)) => shops.add(path, &shop, vec![secret])?,
            _ => shops.add(path, &shop, table.secrets)?,
        }
    }
    if shops.secrets.is_empty() {
        Err(format!("{} names no shop", path.display()))
    } else {
        Ok(shops)
    }
}

impl Shops {
    fn add(&mut self, path: &Path, shop: &str, list: Vec<String>) -> Result<(), String> {
        let secrets: Vec<_> = list
            .into_iter()
            .filter(|secret| !secret.is_empty())
            .map(Secret::from)
            .collect();
        if secrets.is_empty() {
            return Err(format!("{} has no secret for {shop}", path.display()));
        }
        if self.secrets.insert(shop.to_ascii_lowercase(), secrets).is_some() {
            return Err(format!("{} names {shop} twice", path.display()));
        }
        Ok(())
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
        assert_eq!(shops.secrets["a.myshopify.com"][1].expose_secret(), "old");
        for (text, what) in [
            ("", "names no shop"),
            ("\"a\" = []", "has no secret for a"),
            ("\"a\" = [\"s3cret\"]\n\"A\" = [\"s3cret\"]", "names a twice"),
            ("\"a\" = [\"x\"]\n\"b\" = \"s3cret\"", "at line 2"),
            ("\"a\" = [s3cret]", "at line 1"),
            ("[shops.\"a\"]\nadmin_token = \"s3cret\"", "has no secret for a"),
            ("[shops.\"a\"]\nclient_secret = \"s3cret\"", "[shops.\"a\"] may hold"),
            ("[shops.\"a\"]\npassword = \"s3cret\"", "[shops.\"a\"] may hold"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(what) && !error.contains("s3cret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_table_of_a_shop_has_its_access_to_the_admin_api() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shops.toml");
        let text = "\"a.myshopify.com\" = [\"one\"]\n[shops.\"A.myshopify.com\"]\nadmin_token_file = \"/run/a\"\n\
                    [shops.\"b.myshopify.com\"]\nclient_id = \"id\"\nclient_secret = \"signs\"\n\
                    [shops.\"c.myshopify.com\"]\nsecrets = [\"three\"]\nadmin_token = \"shpat\"\n";
        std::fs::write(&path, text).unwrap();
        let shops = by_shop(&path).unwrap();
        let secret = |shop: &str| shops.secrets[shop][0].expose_secret().to_owned();
        assert_eq!(
            ["a.myshopify.com", "b.myshopify.com", "c.myshopify.com"].map(secret),
            ["one", "signs", "three"]
        );
        let access = Vec::from_iter(shops.access.values());
        assert!(matches!(
            access[..],
            [
                AdminAccess::TokenFile(_),
                AdminAccess::ClientCredentials { .. },
                AdminAccess::Token(_)
            ]
        ));
    }
}
