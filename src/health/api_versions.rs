//! In which versions of Shopify's API deliveries come, and whether their bodies have the form that is
//! read.
//!
//! Shopify ends a version about a year after it began and then falls forward without a word, and the
//! form of bodies changes. So a version that will end, has ended, or is newer than the tests of this
//! release is a warning; a change is logged once.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use time::{Date, OffsetDateTime};

use super::collector::Health;
use super::probe::Notice;
use super::report::{Check, HealthReport, Status};
use crate::metrics::{ApiVersionAge, ApiVersionLabels, Metrics};

/// The newest version whose bodies the tests of this release read.
const TESTED: ApiVersion = (2026, 7);
/// Months after which a version is about to end, and after which it may have ended.
const ENDING: i32 = 9;
const OLD: i32 = 12;

/// Year and month.
type ApiVersion = (i32, u8);

/// The last version of each topic; a cheap clone.
#[derive(Debug, Clone)]
pub(super) struct ApiVersions {
    last: Arc<ArcSwap<BTreeMap<&'static str, ApiVersion>>>,
    forms: Notice,
    metrics: Metrics,
}

impl ApiVersions {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            last: Arc::default(),
            forms: Notice::default(),
            metrics: metrics.clone(),
        }
    }

    /// Notes the version of a verified delivery, as its header has it.
    pub(super) fn note(&self, topic: &'static str, written: Option<&str>) {
        let parsed = written.and_then(parse);
        let today = OffsetDateTime::now_utc().date();
        let age = parsed.map_or(ApiVersionAge::Unknown, |version| age(version, today));
        let labels = ApiVersionLabels { version: age };
        self.metrics.api_versions.get_or_create(&labels).inc();
        let Some(version) = parsed else { return };
        let before = self.last.load().get(topic).copied();
        if before == Some(version) {
            return;
        }
        self.last.rcu(|last| {
            let mut last = BTreeMap::clone(last);
            last.insert(topic, version);
            last
        });
        if let Some(before) = before {
            let (before, now) = (shown(before), shown(version));
            tracing::warn!(
                topic,
                before,
                now,
                "deliveries come in another version of Shopify's API"
            );
        }
    }

    /// Adds to the report what is wrong with the last versions and with the form of bodies.
    pub(super) fn add_to(&self, report: &mut HealthReport) {
        let form = self.forms.text();
        let form = form.map(|text| Check::new("body_form", Status::Warning, text));
        for check in self.check().into_iter().chain(form) {
            report.add(report.checks.len(), check);
        }
    }

    /// What is wrong with the last versions; `None` where nothing is.
    fn check(&self) -> Option<Check> {
        let today = OffsetDateTime::now_utc().date();
        let last = self.last.load();
        let judged = last
            .iter()
            .map(|(topic, version)| (*topic, *version, age(*version, today)));
        let wrong = Vec::from_iter(judged.filter(|(.., age)| *age != ApiVersionAge::Current));
        let (topic, version, age) = wrong.first()?;
        let what = match age {
            ApiVersionAge::Newer => "is newer than what this release is tested with: look for a newer release",
            ApiVersionAge::Ending => "is about to end: set a newer one in the app that subscribes",
            ApiVersionAge::Old | ApiVersionAge::Current | ApiVersionAge::Unknown => {
                "is a year old or older, and Shopify may have ended it: set a newer one in the app that subscribes"
            }
        };
        let others = match wrong.len() - 1 {
            0 => String::new(),
            count => format!(" (and {count} other topics)"),
        };
        let detail = format!(
            "version {} of Shopify's API, in which {topic}{others} comes, {what}",
            shown(*version)
        );
        Some(Check::new("api_version", Status::Warning, detail))
    }
}

impl Health {
    /// Notes the version of Shopify's API in which a delivery came.
    pub fn came_in_version(&self, topic: &'static str, version: Option<&str>) {
        self.versions.note(topic, version);
    }

    /// Where it is noted that bodies have another form than is read.
    #[must_use]
    pub fn body_forms(&self) -> Notice {
        self.versions.forms.clone()
    }
}

/// `2026-07`; `None` for anything else, such as `unstable`.
fn parse(text: &str) -> Option<ApiVersion> {
    let (year, month) = text.split_once('-')?;
    let is_version = year.len() == 4 && month.len() == 2;
    let month: u8 = month.parse().ok().filter(|month| (1..=12).contains(month))?;
    is_version.then_some((year.parse().ok()?, month))
}

fn shown((year, month): ApiVersion) -> String {
    format!("{year:04}-{month:02}")
}

fn age((year, month): ApiVersion, today: Date) -> ApiVersionAge {
    let months = (today.year() - year) * 12 + i32::from(u8::from(today.month())) - i32::from(month);
    if (year, month) > TESTED {
        ApiVersionAge::Newer
    } else if months >= OLD {
        ApiVersionAge::Old
    } else if months >= ENDING {
        ApiVersionAge::Ending
    } else {
        ApiVersionAge::Current
    }
}

#[cfg(test)]
mod tests {
    use time::Month;

    use super::*;

    #[test]
    fn a_version_is_current_for_nine_months_and_old_after_a_year() {
        let today = Date::from_calendar_date(2026, Month::November, 30).unwrap();
        for (version, expected) in [
            ("2026-10", ApiVersionAge::Newer),
            ("2026-07", ApiVersionAge::Current),
            ("2026-04", ApiVersionAge::Current),
            ("2026-01", ApiVersionAge::Ending),
            ("2025-10", ApiVersionAge::Old),
            ("2023-07", ApiVersionAge::Old),
        ] {
            assert_eq!(age(parse(version).unwrap(), today), expected, "{version}");
        }
        for text in ["unstable", "2026", "2026-13", "2026-7", "26-07", "x-y", ""] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_topic_is_named_for_as_long_as_its_last_version_is_not_current() {
        let versions = ApiVersions::new(&Metrics::new());
        versions.note("orders/create", None);
        assert!(versions.check().is_none());
        versions.note("orders/create", Some("2019-04"));
        versions.note("orders/updated", Some("2019-04"));
        let check = versions.check().unwrap();
        assert!(
            check
                .detail
                .starts_with("version 2019-04 of Shopify's API, in which orders/create (and 1"),
            "{}",
            check.detail
        );
        for topic in ["orders/create", "orders/updated"] {
            versions.note(topic, Some("9999-01"));
        }
        assert!(versions.check().unwrap().detail.contains("newer than what"));
    }
}
