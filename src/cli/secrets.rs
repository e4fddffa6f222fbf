//! Shopify's secrets in `status`: their use, as reported by the process that verifies with them.

use std::time::Duration;

use super::Failure;
use super::output::span;
use super::remote::{self, Instance, Remote};
use crate::config::Config;
use crate::operations::{SecretUsage, SecretUsageReport};

/// What the process of this configuration reports, or why it does not; `None` where its address is
/// not known.
pub(super) async fn ask(config: &Config) -> Option<Result<SecretUsageReport, Failure>> {
    let admin = Instance::of(config).await.admin?;
    let remote = Remote::new(config, admin).ok()?;
    let asked = tokio::time::timeout(remote::PROBE_TIMEOUT, remote.get("/api/secrets")).await;
    let silent = |_| Err(Failure::Unavailable(format!("no answer from the process at {admin}")));
    Some(asked.unwrap_or_else(silent))
}

pub(super) fn lines(asked: &Result<SecretUsageReport, Failure>) -> Vec<String> {
    match asked {
        Ok(secrets) => text(secrets),
        Err(why) => vec![format!("secrets              unknown: {why}")],
    }
}

fn text(secrets: &SecretUsageReport) -> Vec<String> {
    let mut lines: Vec<_> = secrets.secrets.iter().map(line).collect();
    lines.extend(secrets.note.iter().map(|note| format!("  {note}")));
    lines
}

fn line(secret: &SecretUsage) -> String {
    let age = match secret.index {
        0 => "newest",
        1 => "previous",
        _ => "older",
    };
    let shop = secret
        .shop
        .as_ref()
        .map(|shop| format!(" of {shop}"))
        .unwrap_or_default();
    let unused = span(Duration::from_secs(secret.unused_seconds));
    let what = match (secret.removable, secret.last_used_at) {
        (true, _) => format!("unused for {unused}; can be removed"),
        (false, None) => format!("unused for {unused}"),
        (false, Some(_)) => format!("{} deliveries, the last {unused} ago", secret.deliveries),
    };
    format!("secret {} ({age}){shop}: {what}", secret.index + 1)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn an_old_secret_says_when_it_can_go() {
        let secret = |index, deliveries, unused_seconds, removable| SecretUsage {
            shop: (index == 2).then(|| "a.example".to_owned()),
            index,
            deliveries,
            last_used_at: (deliveries > 0).then_some(OffsetDateTime::UNIX_EPOCH),
            unused_seconds,
            removable,
        };
        let secrets = SecretUsageReport {
            since: OffsetDateTime::UNIX_EPOCH,
            secrets: vec![
                secret(0, 12, 3, false),
                secret(1, 4, 5 * 3600, true),
                secret(2, 0, 60, false),
            ],
            note: Some("and so on".to_owned()),
        };
        assert_eq!(
            text(&secrets),
            [
                "secret 1 (newest): 12 deliveries, the last 3.0s ago",
                "secret 2 (previous): unused for 5h 0m; can be removed",
                "secret 3 (older) of a.example: unused for 1m 0s",
                "  and so on",
            ]
        );
    }
}
