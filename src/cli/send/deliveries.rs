//! What is sent: body, topic, ids and signature of each delivery, as Shopify makes them.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::generate::Generator;
use crate::cli::Failure;
use crate::config::Secret;

const API_VERSION: &str = "2026-04";

/// Makes deliveries by number; the same number is the same delivery.
pub(super) struct Deliveries {
    bodies: Bodies,
    run: Uuid,
    signer: Hmac<Sha256>,
    topic: String,
    shop: String,
}

enum Bodies {
    Generated(Generator),
    Files(Vec<Bytes>),
}

impl Deliveries {
    /// Reads the files, all of them before the first is sent.
    pub(super) fn new(
        files: &[PathBuf],
        seed: Option<u64>,
        secret: Secret,
        topic: String,
        shop: String,
    ) -> Result<Self, Failure> {
        let signer = Hmac::new_from_slice(secret.expose_secret().as_bytes())
            .map_err(|error| Failure::Usage(format!("error: the secret does not do: {error}\n")))?;
        let read = |path: &PathBuf| {
            let unreadable = |error| Failure::Usage(format!("error: --file {}: {error}\n", path.display()));
            std::fs::read(path).map(Bytes::from).map_err(unreadable)
        };
        let bodies = match files {
            [] => Bodies::Generated(Generator::new(seed)),
            files => Bodies::Files(files.iter().map(read).collect::<Result<_, _>>()?),
        };
        let run = seed.map_or_else(Uuid::new_v4, |seed| {
            Uuid::new_v5(&Uuid::NAMESPACE_OID, &seed.to_be_bytes())
        });
        Ok(Self {
            bodies,
            run,
            signer,
            topic,
            shop,
        })
    }

    /// The headers and body of delivery `number`.
    pub(super) fn make(&self, number: u64) -> (Vec<(&'static str, String)>, Bytes) {
        let body = match &self.bodies {
            Bodies::Generated(generator) => Bytes::from(generator.body(&self.topic, &self.shop, number)),
            Bodies::Files(files) => {
                let turn = usize::try_from(number).unwrap_or_default() % files.len();
                files.get(turn).cloned().unwrap_or_default()
            }
        };
        let mut signer = self.signer.clone();
        signer.update(&body);
        let id = |what: &str| Uuid::new_v5(&self.run, format!("{what} {} {number}", self.topic).as_bytes()).to_string();
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("x-shopify-topic", self.topic.clone()),
            ("x-shopify-shop-domain", self.shop.clone()),
            ("x-shopify-api-version", API_VERSION.to_owned()),
            ("x-shopify-webhook-id", id("webhook")),
            ("x-shopify-event-id", id("event")),
            (
                "x-shopify-triggered-at",
                OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            ),
            ("x-shopify-hmac-sha256", STANDARD.encode(signer.finalize().into_bytes())),
        ];
        (headers, body)
    }
}
