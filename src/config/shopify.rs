//! Access to the Admin API of each shop.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString as Secret;

use super::layers::LayeredValues;
use super::{parse, settings as s};

/// Access to Shopify's Admin API, by shop.
#[derive(Debug, Clone)]
pub struct ShopifyAdminConfig {
    /// Domain in lower case → how its tokens are got. Empty: no shop is asked for anything.
    pub shops: BTreeMap<String, AdminAccess>,
    /// Version of the API, such as `2026-07`.
    pub api_version: String,
    /// Share of each shop's rate limit that is used, percent, 1 to 100.
    pub budget_percent: u32,
    /// Address in place of `https://SHOP`; `None`: the shop's own.
    pub url: Option<Secret>,
}

/// How a shop's access token is got.
#[derive(Debug, Clone)]
pub enum AdminAccess {
    /// As it stands.
    Token(Secret),
    /// From a file, which is read again when it changes.
    TokenFile(PathBuf),
    /// By the client-credentials grant of an app of the Dev Dashboard.
    ClientCredentials {
        /// Client id of the app.
        id: String,
        /// Its client secret.
        secret: Secret,
    },
}

/// `of_file`: the shops that the file of `SHOP_SECRETS_FILE` has access for.
pub(super) fn admin(values: &mut LayeredValues, of_file: BTreeMap<String, AdminAccess>) -> ShopifyAdminConfig {
    let mut shops = of_file;
    if let Some((shop, access)) = single(values)
        && shops.insert(shop, access).is_some()
    {
        values.contradict(
            &[&s::SHOPIFY_SHOP, &s::SHOP_SECRETS_FILE],
            "the file has access for the same shop",
            "only one of the two",
        );
    }
    let api_version = values.string(&s::SHOPIFY_API_VERSION);
    if !is_version(&api_version) {
        values.refuse(
            &s::SHOPIFY_API_VERSION,
            format!("`{}` is not a version", api_version.escape_debug()),
            "a version of the Admin API, such as 2026-07".to_owned(),
        );
    }
    let budget = values.count(&s::SHOPIFY_BUDGET);
    if budget == 0 {
        let why = "nothing could be asked".to_owned();
        values.refuse(&s::SHOPIFY_BUDGET, why, "a share from 1% to 100%".to_owned());
    }
    ShopifyAdminConfig {
        shops,
        api_version,
        budget_percent: u32::try_from(budget).unwrap_or(100),
        url: values.secret(&s::SHOPIFY_ADMIN_URL),
    }
}

/// The shop that the variables name, with its access.
fn single(values: &mut LayeredValues) -> Option<(String, AdminAccess)> {
    let shop = values.text(&s::SHOPIFY_SHOP).map(str::to_ascii_lowercase);
    let token = values.secret(&s::SHOPIFY_ADMIN_TOKEN);
    let (id, secret) = (
        values.text(&s::SHOPIFY_CLIENT_ID).map(str::to_owned),
        values.secret(&s::SHOPIFY_CLIENT_SECRET),
    );
    let access = match (token, id, secret) {
        (None, None, None) => return None,
        (Some(token), None, None) => match values.file(&s::SHOPIFY_ADMIN_TOKEN) {
            Some(path) => AdminAccess::TokenFile(path.to_owned()),
            None => AdminAccess::Token(token),
        },
        (None, Some(id), Some(secret)) => AdminAccess::ClientCredentials { id, secret },
        _ => {
            values.contradict(
                &[
                    &s::SHOPIFY_ADMIN_TOKEN,
                    &s::SHOPIFY_CLIENT_ID,
                    &s::SHOPIFY_CLIENT_SECRET,
                ],
                "they are not one way to get an access token",
                "either a token, or a client id with its client secret",
            );
            return None;
        }
    };
    match shop {
        Some(shop) if parse::host(&shop) => Some((shop, access)),
        _ => {
            values.contradict(
                &[&s::SHOPIFY_SHOP],
                "a token of the Admin API is given, and not which shop it is for",
                "the shop's domain, such as example.myshopify.com",
            );
            None
        }
    }
}

/// `YYYY-MM` of a quarter, or `unstable`.
fn is_version(text: &str) -> bool {
    let quarter = |year: &str, month: &str| {
        year.len() == 4
            && year.bytes().all(|digit| digit.is_ascii_digit())
            && matches!(month, "01" | "04" | "07" | "10")
    };
    text == "unstable" || text.split_once('-').is_some_and(|(year, month)| quarter(year, month))
}
