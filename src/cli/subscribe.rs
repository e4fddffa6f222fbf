//! `subscribe`.

use clap::Args;

use super::output::{OutputArgs, table};
use super::{Exit, Failure, shopify};
use crate::config::Config;
use crate::shopify_admin::subscriptions::{self, SubscriptionFinding, SubscriptionReport, WantedSubscriptions};

/// Arguments of `subscribe`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream subscribe                                                 what is wrong with the subscriptions
  orderstream subscribe --fix --uri https://example.com/webhooks/orders   creates and changes them; deletes none

Needs access to the shop's Admin API (docs/SHOPIFY.md). Shopify lists only what this app subscribed through the API: not the
subscriptions of shopify.app.toml, nor those of Settings > Notifications. Exit code 69: something is wrong and not repaired.")]
pub(super) struct SubscribeArgs {
    /// Only say what is wrong (the default)
    #[arg(long, conflicts_with = "fix")]
    check: bool,
    /// Create and change subscriptions
    #[arg(long)]
    fix: bool,
    /// Address of deliveries; without it, the one that most go to already
    #[arg(long, value_name = "ADDRESS", value_parser = https)]
    uri: Option<String>,
    /// Topics, separated by commas, in place of the seven usual ones
    #[arg(long, value_name = "TOPICS", value_delimiter = ',', value_parser = topic)]
    topic: Vec<String>,
    /// Only this shop
    #[arg(long)]
    shop: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

fn https(text: &str) -> Result<String, String> {
    match url::Url::parse(text) {
        Ok(url) if url.scheme() == "https" && url.has_host() => Ok(text.to_owned()),
        _ => Err("Shopify delivers to addresses that begin with https://".to_owned()),
    }
}

fn topic(text: &str) -> Result<String, String> {
    let is_name = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match text.split_once('/') {
        Some((resource, event)) if is_name(resource) && is_name(event) => Ok(text.to_owned()),
        _ => Err("a topic is written like orders/create".to_owned()),
    }
}

/// Compares, and repairs where that is asked for; prints the findings.
///
/// # Errors
/// A shop cannot be asked, or something is left to repair.
pub(super) async fn run(args: SubscribeArgs, config: Config) -> Result<(), Failure> {
    let wanted = WantedSubscriptions {
        topics: args.topic,
        uri: args.uri,
    };
    let mut reports = Vec::new();
    for client in shopify::clients(&config, args.shop.as_deref()).await? {
        let mut report = subscriptions::check(&client, &wanted).await?;
        if args.fix {
            if report.uri.is_none() {
                return Err(Failure::Usage(
                    "error: Shopify lists no subscription to take the address from: give --uri\n".to_owned(),
                ));
            }
            subscriptions::fix(&client, &mut report).await?;
        }
        reports.push(report);
    }
    let lines = || reports.iter().flat_map(lines).collect();
    args.output.print(&serde_json::json!({ "shops": reports }), lines)?;
    let is_left = |finding: &SubscriptionFinding| !finding.fixed;
    if reports.iter().flat_map(|report| &report.findings).any(is_left) {
        return Err(Failure::Reported(Exit::Unavailable));
    }
    Ok(())
}

fn lines(report: &SubscriptionReport) -> Vec<String> {
    let SubscriptionReport {
        shop, listed, findings, ..
    } = report;
    let address = report.uri.as_deref().unwrap_or("no known address");
    if *listed == 0 && findings.is_empty() {
        return vec![format!(
            "{shop}: no subscription of these topics is listed. Those of shopify.app.toml and of Settings > Notifications are \
             not: whether they deliver shows in traffic only"
        )];
    }
    let count = findings.len();
    let mut lines = vec![format!(
        "{shop}: {listed} subscriptions listed, to {address}; {count} findings"
    )];
    let row = |finding: &SubscriptionFinding| {
        let outcome = match (&finding.refused, finding.fixed) {
            (Some(words), _) => format!("refused: {words}"),
            (None, true) => "repaired".to_owned(),
            (None, false) if finding.kind.is_repairable() => "--fix repairs it".to_owned(),
            (None, false) => "by hand".to_owned(),
        };
        [finding.topic.clone(), finding.detail.clone(), outcome]
    };
    if count > 0 {
        lines.extend(table(["topic", "finding", "repair"], findings.iter().map(row)));
    }
    lines
}
