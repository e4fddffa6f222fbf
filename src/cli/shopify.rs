//! The Admin API clients of the configured shops.

use super::Failure;
use crate::config::Config;
use crate::shopify_admin::AdminClient;

/// A client for each shop with access, or for that one.
///
/// # Errors
/// None is configured, or one cannot be used or reached.
pub(super) async fn clients(config: &Config, only: Option<&str>) -> Result<Vec<AdminClient>, Failure> {
    let admin = &config.shopify_admin;
    let only = only.map(str::to_ascii_lowercase);
    let is_meant = |shop: &str| only.as_deref().is_none_or(|only| only == shop);
    let mut clients = Vec::new();
    for (shop, access) in admin.shops.iter().filter(|(shop, _)| is_meant(shop)) {
        clients.push(AdminClient::connect(admin, shop, access).await?);
    }
    if clients.is_empty() {
        let of = only.unwrap_or_else(|| "a shop".to_owned());
        return Err(Failure::Misconfigured(format!(
            "no access to the Admin API of {of} is configured: set ORDERSTREAM_SHOPIFY_SHOP and a token or client \
             credentials, or give the shop a table in ORDERSTREAM_SHOP_SECRETS_FILE (docs/SHOPIFY.md)"
        )));
    }
    Ok(clients)
}
