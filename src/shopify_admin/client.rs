//! Asks one shop's Admin API, with retries, within its budget.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::{debug, warn};

use super::budget::PointBudget;
use super::documents::{self, QueryDocument};
use super::error::{AdminError, text};
use super::identity::ShopIdentity;
use super::reply::{AnswerFields, Attempt, Reply, refused};
use super::token::TokenSource;
use crate::config::{AdminAccess, Secret, ShopifyAdminConfig};

/// Bound on connecting.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Bound on one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of one answer.
const BODY_LIMIT: usize = 64 << 20;
/// Attempts at one query that bring no answer.
const ATTEMPTS: u32 = 6;
/// Times that one query may be throttled.
const THROTTLES: u32 = 60;
/// Delay after the first failure; doubles with each.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Longest delay, also where Shopify asks for more.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// A client of one shop, whose token, scopes and version are verified.
pub struct AdminClient {
    connection: AdminConnection,
    identity: ShopIdentity,
}

impl AdminClient {
    /// Reaches the shop and verifies that token, scopes and version are the right ones.
    ///
    /// # Errors
    /// They are not, or the shop cannot be reached.
    pub async fn connect(config: &ShopifyAdminConfig, shop: &str, access: &AdminAccess) -> Result<Self, AdminError> {
        let connection = AdminConnection::new(config, shop, access)?;
        let identity: ShopIdentity = connection.query(documents::IDENTITY, json!({})).await?;
        identity.verify(shop, &config.api_version)?;
        Ok(Self { connection, identity })
    }

    /// The shop, as Shopify names it.
    #[must_use]
    pub fn identity(&self) -> &ShopIdentity {
        &self.identity
    }

    /// Points that the queries of this client cost so far.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.connection.points.load(Ordering::Relaxed)
    }

    /// Runs a document; answers its fields. AnswerFields that the app may not read are null there, and
    /// logged once.
    ///
    /// # Errors
    /// There is no answer after all retries, or Shopify refuses.
    pub async fn query<T: DeserializeOwned>(
        &self,
        document: QueryDocument,
        variables: impl Serialize,
    ) -> Result<T, AdminError> {
        self.connection.query(document, variables).await
    }
}

struct AdminConnection {
    http: reqwest::Client,
    shop: String,
    /// Address of the shop, without a path.
    base: String,
    version: String,
    tokens: TokenSource,
    budget: Mutex<PointBudget>,
    points: AtomicU64,
    /// AnswerFields that were logged as denied.
    denied: Mutex<BTreeSet<String>>,
}

impl AdminConnection {
    fn new(config: &ShopifyAdminConfig, shop: &str, access: &AdminAccess) -> Result<Self, AdminError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(ANSWER_LIMIT)
            // The token must not follow to another host.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("orderstream/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| AdminError::Unusable(text(error)))?;
        let base = match &config.url {
            Some(url) => url.expose_secret().trim_end_matches('/').to_owned(),
            None => format!("https://{shop}"),
        };
        Ok(Self {
            http,
            shop: shop.to_owned(),
            base,
            version: config.api_version.clone(),
            tokens: TokenSource::new(access.clone()),
            budget: Mutex::new(PointBudget::new(config.budget_percent, Instant::now())),
            points: AtomicU64::new(0),
            denied: Mutex::default(),
        })
    }

    async fn query<T: DeserializeOwned>(
        &self,
        document: QueryDocument,
        variables: impl Serialize,
    ) -> Result<T, AdminError> {
        let unexpected = |error: serde_json::Error| AdminError::Refused {
            document: document.name,
            why: format!("its answer has another shape than expected, at line {}", error.line()),
        };
        let body = json!({ "query": document.text, "variables": variables, "operationName": document.name });
        let body = bytes::Bytes::from(serde_json::to_vec(&body).map_err(unexpected)?);
        let AnswerFields { values, denied } = self.fields(document, &body).await?;
        for field in denied {
            let is_new = self
                .denied
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(field.clone());
            if is_new {
                warn!(
                    shop = self.shop,
                    field, "the app may not read a field, which stays empty: see its access scopes"
                );
            }
        }
        serde_json::from_value(values).map_err(unexpected)
    }

    /// Attempts until there is an answer, or a bound is reached.
    async fn fields(&self, document: QueryDocument, body: &bytes::Bytes) -> Result<AnswerFields, AdminError> {
        let (mut failures, mut throttles, mut was_renewed) = (0, 0, false);
        loop {
            let token = match self.tokens.token(&self.http, &self.base).await {
                Ok(token) => token,
                Err(failed) => {
                    self.pause(document, failed, &mut failures, true).await?;
                    continue;
                }
            };
            let failed = match self.attempt(document, body, &token).await {
                Ok(fields) => return Ok(fields),
                Err(failed) => failed,
            };
            if let Attempt::Throttled(wait) = failed
                && throttles < THROTTLES
            {
                throttles += 1;
                debug!(shop = self.shop, document = document.name, ?wait, "throttled");
                tokio::time::sleep(wait.clamp(RETRY_DELAY / 5, LONGEST_DELAY)).await;
            } else if matches!(failed, Attempt::Unauthorized) && !was_renewed {
                was_renewed = true;
                match self.tokens.renew(&self.http, &self.base, &token).await {
                    Ok(true) => {}
                    Ok(false) => return Err(self.error(document, failed)),
                    Err(failed) => self.pause(document, failed, &mut failures, true).await?,
                }
            } else {
                self.pause(document, failed, &mut failures, false).await?;
            }
        }
    }

    /// Waits before the next attempt, where there is to be one. `is_read`: what failed changes
    /// nothing, whatever the document does.
    async fn pause(
        &self,
        document: QueryDocument,
        failed: Attempt,
        failures: &mut u32,
        is_read: bool,
    ) -> Result<(), AdminError> {
        let Attempt::Again { why, after, is_undone } = &failed else {
            return Err(self.error(document, failed));
        };
        *failures += 1;
        let may_repeat = is_read || *is_undone || !document.is_mutation();
        if *failures >= ATTEMPTS || !may_repeat {
            return Err(self.error(document, failed));
        }
        let grown = RETRY_DELAY.saturating_mul(1 << (*failures - 1));
        let delay = after.unwrap_or_else(|| grown.mul_f64(0.5 + rand::random::<f64>() / 2.0));
        debug!(
            shop = self.shop,
            document = document.name,
            why,
            ?delay,
            "the Admin API is asked again"
        );
        tokio::time::sleep(delay.min(LONGEST_DELAY)).await;
        Ok(())
    }

    async fn attempt(
        &self,
        document: QueryDocument,
        body: &bytes::Bytes,
        token: &Secret,
    ) -> Result<AnswerFields, Attempt> {
        let taken = self.points_for(document).await;
        let sent = self.send(body, token).await;
        let cost = sent.as_ref().ok().and_then(Reply::cost);
        self.budget().settle(document.name, taken, cost);
        let used = cost.map_or(0.0, |cost| cost.used().max(0.0).ceil());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small whole number"
        )]
        self.points.fetch_add(used as u64, Ordering::Relaxed);
        sent?.outcome()
    }

    /// Waits until the budget has the points for it.
    async fn points_for(&self, document: QueryDocument) -> f64 {
        loop {
            let taken = self.budget().take(document.name, Instant::now());
            match taken {
                Ok(points) => return points,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, PointBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, body: &bytes::Bytes, token: &Secret) -> Result<Reply, Attempt> {
        let mut header = HeaderValue::from_str(token.expose_secret())
            .map_err(|_| Attempt::Denied("the access token has characters that none has".to_owned()))?;
        header.set_sensitive(true);
        let failed = |error: reqwest::Error| Attempt::Again {
            is_undone: error.is_connect(),
            after: None,
            why: text(error),
        };
        let mut answer = self
            .http
            .post(format!("{}/admin/api/{}/graphql.json", self.base, self.version))
            .header("x-shopify-access-token", header)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.clone())
            .send()
            .await
            .map_err(failed)?;
        let status = answer.status().as_u16();
        if status != 200 {
            let retry_after = answer.headers().get(http::header::RETRY_AFTER);
            return Err(refused(status, retry_after.and_then(|value| value.to_str().ok())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > BODY_LIMIT {
                return Err(Attempt::TooCostly);
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|_| Attempt::again("the answer is no JSON".to_owned()))
    }

    fn error(&self, document: QueryDocument, attempt: Attempt) -> AdminError {
        let (shop, document) = (self.shop.clone(), document.name);
        match attempt {
            Attempt::Throttled(_) => AdminError::Unavailable {
                shop,
                why: "its rate limit leaves no points, which another app or process uses".to_owned(),
            },
            Attempt::Unauthorized => AdminError::Denied {
                shop,
                why: "the access token is not valid (401): give the token of an app that is installed on the shop"
                    .to_owned(),
            },
            Attempt::Again { why, .. } | Attempt::Closed(why) => AdminError::Unavailable { shop, why },
            Attempt::Denied(why) => AdminError::Denied { shop, why },
            Attempt::TooCostly => AdminError::TooCostly { document },
            Attempt::Refused(why) => AdminError::Refused { document, why },
            Attempt::Unusable(why) => AdminError::Unusable(why),
        }
    }
}
