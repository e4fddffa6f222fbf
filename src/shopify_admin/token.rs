//! The access token of one shop: as configured, from a file, or by the client-credentials grant.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::error::text;
use super::reply::Attempt;
use crate::config::{AdminAccess, Secret};

/// Larger answers are not a token.
const FILE_LIMIT: u64 = 64 << 10;
/// Share of a token's life after which it is renewed.
const RENEW_AT: f64 = 0.8;
/// Life of a token that names none.
const USUAL_LIFE: u64 = 86_399;

/// Gets and renews the token.
pub(super) struct TokenSource {
    access: AdminAccess,
    held: Mutex<Option<HeldToken>>,
}

#[derive(Clone)]
struct HeldToken {
    token: Secret,
    /// `None`: it has no known end.
    renewed_at: Option<Instant>,
    /// When its file was written.
    written: Option<SystemTime>,
}

/// The answer of the grant.
#[derive(Deserialize)]
struct Grant {
    access_token: String,
    expires_in: Option<u64>,
}

impl TokenSource {
    pub(super) fn new(access: AdminAccess) -> Self {
        Self {
            access,
            held: Mutex::new(None),
        }
    }

    /// The token to use now. `base` is the shop's address.
    pub(super) async fn token(&self, http: &reqwest::Client, base: &str) -> Result<Secret, Attempt> {
        let mut held = self.held.lock().await;
        let is_current = |held: &HeldToken| match &self.access {
            AdminAccess::TokenFile(file) => held.written == written(file),
            AdminAccess::Token(_) | AdminAccess::ClientCredentials { .. } => {
                held.renewed_at.is_none_or(|at| Instant::now() < at)
            }
        };
        if let Some(held) = held.as_ref().filter(|held| is_current(held)) {
            return Ok(held.token.clone());
        }
        let fresh = self.get(http, base).await?;
        Ok(held.insert(fresh).token.clone())
    }

    /// After Shopify refused `refused`: whether there is another token now.
    pub(super) async fn renew(&self, http: &reqwest::Client, base: &str, refused: &Secret) -> Result<bool, Attempt> {
        let mut held = self.held.lock().await;
        let is_same = |token: &Secret| token.expose_secret() == refused.expose_secret();
        if held.as_ref().is_some_and(|held| !is_same(&held.token)) {
            return Ok(true);
        }
        let fresh = self.get(http, base).await?;
        Ok(!is_same(&held.insert(fresh).token))
    }

    async fn get(&self, http: &reqwest::Client, base: &str) -> Result<HeldToken, Attempt> {
        match &self.access {
            AdminAccess::Token(token) => Ok(HeldToken {
                token: token.clone(),
                renewed_at: None,
                written: None,
            }),
            AdminAccess::TokenFile(file) => {
                let written = written(file);
                let token = read(file).map_err(|why| {
                    let file = file.display();
                    Attempt::Unusable(format!(
                        "the access token in {file} {why}: write the token of the shop there"
                    ))
                })?;
                Ok(HeldToken {
                    token,
                    renewed_at: None,
                    written,
                })
            }
            AdminAccess::ClientCredentials { id, secret } => grant(http, base, id, secret).await,
        }
    }
}

async fn grant(http: &reqwest::Client, base: &str, id: &str, secret: &Secret) -> Result<HeldToken, Attempt> {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", id)
        .append_pair("client_secret", secret.expose_secret())
        .finish();
    let asked_at = Instant::now();
    let answer = http
        .post(format!("{base}/admin/oauth/access_token"))
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(http::header::ACCEPT, "application/json")
        .body(form)
        .send()
        .await
        .map_err(|error| Attempt::again(text(error)))?;
    match answer.status().as_u16() {
        200 => {
            let grant: Grant = answer.json().await.map_err(|error| Attempt::again(text(error)))?;
            let life = Duration::from_secs(grant.expires_in.unwrap_or(USUAL_LIFE));
            Ok(HeldToken {
                token: grant.access_token.into(),
                renewed_at: Some(asked_at + life.mul_f64(RENEW_AT)),
                written: None,
            })
        }
        400 | 401 | 403 | 404 => {
            #[derive(Default, Deserialize)]
            struct GrantRefusal {
                error: Option<String>,
            }
            let refusal: GrantRefusal = answer.json().await.unwrap_or_default();
            let code = refusal.error.unwrap_or_else(|| "without a reason".to_owned());
            let code: String = code.chars().take(60).collect();
            Err(Attempt::Denied(format!(
                "the client id and client secret get no access token ({code}): compare them with the app's in the Dev \
                 Dashboard, and see that the app is installed on the shop and of the same organization"
            )))
        }
        status => Err(Attempt::again(format!("no access token: HTTP {status}"))),
    }
}

fn written(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

fn read(file: &Path) -> Result<Secret, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read ({error})");
    if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_LIMIT {
        return Err("is too long".to_owned());
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    match text.trim() {
        "" => Err("is empty".to_owned()),
        token => Ok(Secret::from(token)),
    }
}
