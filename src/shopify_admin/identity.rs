//! The shop, the app's scopes and the versions, as Shopify names them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::error::AdminError;
use crate::shopify::ShopZone;

/// What every command of the Admin API reads orders by.
const SCOPES: [&str; 5] = [
    "read_orders",
    // Without it only orders of the last 60 days are visible, and no error says so.
    "read_all_orders",
    // The ids of customers, products and locations are behind these.
    "read_customers",
    "read_products",
    "read_locations",
];

/// The shop that a token belongs to.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "IdentityAnswer")]
pub struct ShopIdentity {
    /// Its domain, in lower case.
    pub shop: String,
    /// Its gid.
    pub id: String,
    /// Its time zone, by its IANA name.
    pub timezone: String,
    /// Its currency.
    pub currency: String,
    /// The app's scopes there.
    pub scopes: BTreeSet<String>,
    /// Versions of the API that are supported.
    pub versions: Vec<String>,
}

impl ShopIdentity {
    /// Whether the app may do what the scope allows; what may write may read.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        let writing = scope.strip_prefix("read_").map(|rest| format!("write_{rest}"));
        self.scopes.contains(scope) || writing.is_some_and(|writing| self.scopes.contains(&writing))
    }

    /// The zone by which it counts its days.
    ///
    /// # Errors
    /// This release does not know it.
    pub fn zone(&self) -> Result<ShopZone, AdminError> {
        ShopZone::named(&self.timezone)
            .ok_or_else(|| AdminError::Unusable(format!("this release does not know the time zone {}", self.timezone)))
    }

    /// Whether it is the configured shop, with every scope and that version.
    pub(super) fn verify(&self, shop: &str, version: &str) -> Result<(), AdminError> {
        let name = || shop.to_owned();
        if self.shop != shop {
            let found = self.shop.clone();
            return Err(AdminError::OtherShop { shop: name(), found });
        }
        let lacking = SCOPES.into_iter().filter(|scope| !self.has_scope(scope));
        let scopes = Vec::from_iter(lacking.map(str::to_owned));
        if !scopes.is_empty() {
            return Err(AdminError::MissingScopes { shop: name(), scopes });
        }
        if version != "unstable" && !self.versions.iter().any(|supported| supported == version) {
            return Err(AdminError::Version {
                asked: version.to_owned(),
                supported: self.versions.clone(),
            });
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityAnswer {
    shop: ShopAnswer,
    current_app_installation: Installation,
    public_api_versions: Vec<VersionAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShopAnswer {
    id: String,
    myshopify_domain: String,
    iana_timezone: String,
    currency_code: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Installation {
    access_scopes: Vec<Handle>,
}

#[derive(Deserialize)]
struct Handle {
    handle: String,
}

#[derive(Deserialize)]
struct VersionAnswer {
    handle: String,
    supported: bool,
}

impl From<IdentityAnswer> for ShopIdentity {
    fn from(answer: IdentityAnswer) -> Self {
        let supported = answer
            .public_api_versions
            .into_iter()
            .filter(|version| version.supported);
        Self {
            shop: answer.shop.myshopify_domain.to_ascii_lowercase(),
            id: answer.shop.id,
            timezone: answer.shop.iana_timezone,
            currency: answer.shop.currency_code,
            scopes: answer
                .current_app_installation
                .access_scopes
                .into_iter()
                .map(|scope| scope.handle)
                .collect(),
            versions: supported.map(|version| version.handle).collect(),
        }
    }
}
