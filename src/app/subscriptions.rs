//! Role: compares the webhook subscriptions of each shop with those that are wanted, hourly, and at
//! once after an outage in which Shopify may have dropped them.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::config::{AdminAccess, ShopifyAdminConfig};
use crate::health::Notice;
use crate::metrics::Metrics;
use crate::shopify_admin::subscriptions::{self, SubscriptionReport, WantedSubscriptions};
use crate::shopify_admin::{AdminClient, AdminError};

/// Time between two comparisons.
const EVERY: Duration = Duration::from_secs(3600);
/// The same while something is wrong.
const AFTER_FINDING: Duration = Duration::from_secs(300);
/// Interval at which it is seen whether an outage ended.
const POLL_EVERY: Duration = Duration::from_secs(5);
/// Share of Shopify's retries above which an outage may have cost subscriptions.
const DANGEROUS: f64 = 0.5;

/// Compares for ever; `notice` has what is wrong.
pub(super) async fn watch(config: ShopifyAdminConfig, notice: Notice, metrics: Metrics) {
    let mut logged = None;
    loop {
        let (mut texts, mut findings) = (Vec::new(), 0);
        for (shop, access) in &config.shops {
            match look(&config, shop, access).await {
                Ok(report) => {
                    findings += report.findings.len();
                    texts.extend(text(&report));
                }
                Err(error) => texts.push(format!("the subscriptions of {shop} are not known: {error}")),
            }
        }
        metrics
            .subscription_findings
            .set(i64::try_from(findings).unwrap_or(i64::MAX));
        let text = (!texts.is_empty()).then(|| texts.join("; "));
        if text != logged {
            match &text {
                Some(text) => warn!("{text}"),
                None => info!("the webhook subscriptions are as they should be"),
            }
            logged.clone_from(&text);
        }
        let pause = if text.is_none() { EVERY } else { AFTER_FINDING };
        notice.set(text);
        wait(pause, &metrics).await;
    }
}

async fn look(config: &ShopifyAdminConfig, shop: &str, access: &AdminAccess) -> Result<SubscriptionReport, AdminError> {
    let client = AdminClient::connect(config, shop, access).await?;
    subscriptions::check(&client, &WantedSubscriptions::default()).await
}

/// Waits so long, or until an outage ends that was dangerous.
async fn wait(pause: Duration, metrics: &Metrics) {
    let until = Instant::now() + pause;
    let mut was_dangerous = false;
    while Instant::now() < until {
        let used = metrics.spool.retry_budget_used.get();
        if was_dangerous && used < DANGEROUS {
            return;
        }
        was_dangerous = used >= DANGEROUS;
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// What is wrong at a shop, and what to do.
fn text(report: &SubscriptionReport) -> Option<String> {
    let first = report.findings.first()?;
    let more = match report.findings.len() - 1 {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!(
        "webhook subscriptions of {}: {}: {}{more}; run `orderstream subscribe`",
        report.shop, first.topic, first.detail
    ))
}
