//! Secrets and tokens in the form the listeners use, replaced as a whole on SIGHUP.

use std::sync::Arc;

use arc_swap::ArcSwap;
use time::OffsetDateTime;

use super::error::AppError;
use crate::config::{AuthConfig, Config, Secret};
use crate::http::{PublicCredentials, Tokens};
use crate::shopify::Keyring;

/// The credentials of both listeners.
pub(super) struct Credentials {
    pub(super) public: PublicCredentials,
    pub(super) admin: Arc<ArcSwap<Tokens>>,
}

impl Credentials {
    pub(super) fn new(config: &Config) -> Result<Self, AppError> {
        let credentials = Self {
            public: PublicCredentials::default(),
            admin: Arc::default(),
        };
        let swap = credentials.prepare(&config.auth, config.admin.token.as_ref());
        swap.map_err(AppError::Config)?();
        Ok(credentials)
    }

    /// Builds the new credentials; calling the answer replaces the old ones.
    pub(super) fn prepare<'a>(
        &'a self,
        auth: &AuthConfig,
        admin: Option<&Secret>,
    ) -> Result<impl FnOnce() + use<'a>, String> {
        let old = self.public.keyring.load_full();
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        let now = u64::try_from(now).unwrap_or_default();
        let keyring = keyring(auth)?.map(|keyring| Arc::new(keyring.succeed(old.as_deref(), now)));
        let (tokens, admin) = (Arc::new(Tokens::new(&auth.api_tokens)), Arc::new(Tokens::new(admin)));
        Ok(move || {
            self.public.keyring.store(keyring);
            self.public.tokens.store(tokens);
            self.admin.store(admin);
        })
    }
}

fn keyring(auth: &AuthConfig) -> Result<Option<Keyring>, String> {
    let keyring = match &auth.shop_secrets {
        Some(lists) => Keyring::by_shop(lists.iter().map(|(shop, secrets)| (shop.as_str(), secrets.as_slice()))),
        None if auth.shopify_secrets.is_empty() => return Ok(None),
        None => Keyring::new(&auth.shopify_secrets),
    };
    keyring.map(Some).map_err(|error| error.to_string())
}
