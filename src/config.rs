//! Configuration: read once at start; secrets and URLs again on SIGHUP.
//!
//! # Layout
//!
//! `settings.rs` is the one table of every name, default, bound and help text, from which flags,
//! help and `docs/CONFIGURATION.md` come. `layers.rs` finds what is given for each: flag,
//! environment, configuration file (`file.rs`), default; `parse.rs` says how values are written.
//! `load.rs` makes a [`Config`] (`model.rs`) of them, and `validate.rs` and `secret_strength.rs` report
//! contradictions and weak secrets. `secrets.rs` reads the file of shops, and `shopify.rs` makes
//! the access to the Admin API. `retention.rs` says how long rows are kept; [`local`] keeps the secrets of local mode; `suggest.rs` finds
//! misspelt names; `report.rs` is for operators.
//!
//! # Invariants
//!
//! - A `Config` that exists is valid as a whole; all problems are reported together
//!   ([`ConfigErrors`]).
//! - What is reachable from another machine has secrets and tokens.
//! - A secret is never printed, in no error either.
//! - Only files are read: the environment is handed in.

mod file;
mod layers;
mod load;
pub mod local;
mod model;
mod parse;
mod report;
mod retention;
mod secret_strength;
mod secrets;
pub mod settings;
mod shopify;
mod spans;
mod suggest;
mod thresholds;
mod validate;

pub use self::layers::{ConfigErrors, ConfigProblem};
pub use self::model::{
    AdminConfig, AppenderConfig, CaptureConfig, Config, DatabaseConfig, Durability, Inputs, IntakeConfig, KeepRaw,
    LogConfig, LogFormat, PublicConfig, Purpose, RedisConfig, Reloaded, ShutdownConfig, StreamConfig, WorkerConfig,
};
pub(crate) use self::parse::duration;
pub use self::report::{SettingReport, SettingsReport};
pub use self::retention::RetentionConfig;
pub use self::secrets::AuthConfig;
pub use self::shopify::{AdminAccess, ShopifyAdminConfig};
pub use self::thresholds::{Ages, DeadLetterLevels, HealthConfig, Levels};
pub use secrecy::SecretString as Secret;
