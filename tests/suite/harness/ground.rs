//! What a pipeline or its ingest side stands on, for tests that hold on any ground.

use rust_decimal::Decimal;
use tempfile::TempDir;

use super::folder;
use super::ingest;
use super::local::Local;
use super::redis::RedisServer;
use super::service;
use super::site::Site;

/// Where the stream of an ingest side is.
pub enum Ground {
    Redis(Box<RedisServer>),
    File(TempDir),
}

impl Ground {
    pub async fn redis() -> Self {
        Self::Redis(Box::new(RedisServer::start().await))
    }

    pub async fn file() -> Self {
        Self::File(folder::temporary("stream-"))
    }

    /// An ingest side that takes webhooks.
    pub async fn ingest(&self) -> ingest::Service {
        let settings = match self {
            Self::Redis(server) => ingest::Settings::new(server),
            Self::File(folder) => ingest::Settings::in_file(folder.path().join("stream.db")),
        };
        ingest::Service::start_with(settings).await.ready().await
    }
}

/// Where a whole pipeline is: servers, or files.
pub trait Place {
    fn settings(&self) -> service::Settings;
    /// Lines of a query on the warehouse; `{}` stands for what comes before the name of a table.
    fn query(&self, sql: &str) -> Vec<String>;
}

impl Place for Site {
    fn settings(&self) -> service::Settings {
        Self::settings(self)
    }

    fn query(&self, sql: &str) -> Vec<String> {
        let rows = self.sql(&sql.replace("{}", "orderstream."));
        rows.lines().map(normalized).collect()
    }
}

impl Place for Local {
    fn settings(&self) -> service::Settings {
        Self::settings(self)
    }

    fn query(&self, sql: &str) -> Vec<String> {
        let rows = self.sql(&sql.replace("{}", ""));
        rows.iter().map(|row| normalized(row)).collect()
    }
}

/// Amounts without the zeros at their end, which the two warehouses write as they like.
fn normalized(row: &str) -> String {
    let cell = |text: &str| match text.parse::<Decimal>() {
        Ok(number) if text.contains('.') => number.normalize().to_string(),
        _ => text.to_owned(),
    };
    row.split('|').map(cell).collect::<Vec<_>>().join("|")
}

/// Runs each test, a function of this module that takes a [`Ground`], over Redis and over a file.
macro_rules! on_any_ground {
    ($($test:ident),+ $(,)?) => {
        mod on_redis {
            $(#[tokio::test] async fn $test() { super::$test($crate::harness::ground::Ground::redis().await).await })+
        }
        mod on_a_file {
            $(#[tokio::test] async fn $test() { super::$test($crate::harness::ground::Ground::file().await).await })+
        }
    };
}

/// Runs each test, a function of this module that takes a [`Place`], over servers and over files.
macro_rules! in_any_place {
    ($($test:ident),+ $(,)?) => {
        mod on_servers {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                super::$test($crate::harness::site::Site::new().await).await
            })+
        }
        mod on_files {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                super::$test($crate::harness::local::Local::new()).await
            })+
        }
    };
}

pub(crate) use {in_any_place, on_any_ground};
