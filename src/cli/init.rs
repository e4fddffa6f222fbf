//! `init`: writes a first configuration, commented, with fresh secrets. Overwrites nothing.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, output};
use crate::config::local::fresh_secret;
use crate::config::settings::{self as s, ALL, Fallback, Setting};

/// Secrets that nobody else gives.
const SECRETS: [Setting; 4] = [s::SHOPIFY_SECRETS, s::API_TOKENS, s::ADMIN_TOKEN, s::FORGET_KEY];
const HEADER: &str = "\
# Settings of orderstream. A line without # sets a variable; the others show the default, where there is one.
# In a shell: set -a; . ./.env; set +a; orderstream
# With systemd: EnvironmentFile=/path/to/.env; with Docker: docker run --env-file .env
# It holds secrets: keep it out of version control.
";
const COMPOSE: &str = include_str!("../../docker-compose.yml");
const COMPOSE_SECRETS: &str = include_str!("../../.env.example");
/// There is no source beside the file that is written.
const BUILD: &str = "  build: .\n";

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream init               .env with every setting, most commented out
  orderstream init --compose     docker-compose.yml and its .env: Redis, PostgreSQL, one ingest, two workers")]
pub(super) struct InitArgs {
    /// Write docker-compose.yml and the .env of its secrets
    #[arg(long)]
    compose: bool,
    /// Folder that they are written into
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// Writes the files and says what to do with them.
///
/// # Errors
/// One of them exists already, in which case none is written, or cannot be written.
pub(super) fn run(args: &InitArgs) -> Result<(), Failure> {
    let env = args.folder.join(".env");
    let (files, next) = if args.compose {
        let compose = args.folder.join("docker-compose.yml");
        let files = vec![(env, compose_secrets()), (compose, COMPOSE.replace(BUILD, ""))];
        let next = "docker build -t orderstream:local SOURCE (a clone of orderstream), then docker compose up -d; the \
                    dashboard is at http://127.0.0.1:9090/, its token is ADMIN_TOKEN in .env";
        (files, next)
    } else {
        (vec![(env, variables())], "set -a; . ./.env; set +a; orderstream")
    };
    for (path, _) in &files {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::Usage(format!(
                "error: {} exists and is not overwritten: move it away, or name another folder\n",
                path.display()
            )));
        }
    }
    for (path, text) in &files {
        write(path, text).map_err(|error| Failure::Unavailable(format!("{}: {error}", path.display())))?;
    }
    let written = files.iter().map(|(path, _)| format!("wrote {}", path.display()));
    output::print_lines(written.chain([format!("next: {next}")]))
}

/// Every setting as a line of an environment file.
fn variables() -> String {
    let mut text = HEADER.to_owned();
    let mut section = "";
    for setting in ALL {
        if setting.section != section {
            section = setting.section;
            text += &format!("\n# ---- {section}\n");
        }
        text += &format!("# {}\n", setting.help);
        let (mark, value) = match setting.default {
            _ if SECRETS.iter().any(|secret| secret.name == setting.name) => ("", fresh_secret()),
            Fallback::Text(default) => ("#", default.to_owned()),
            Fallback::Derived(how) => {
                text += &format!("# Default: {how}\n");
                ("#", String::new())
            }
            Fallback::Unset => ("#", String::new()),
        };
        text += &format!("{mark}{}={value}\n", setting.name);
    }
    text
}

/// Values that the file leaves empty are secrets.
fn compose_secrets() -> String {
    let lines = COMPOSE_SECRETS.lines();
    let filled = lines.map(|line| match line.ends_with('=') {
        true => format!("{line}{}\n", fresh_secret()),
        false => format!("{line}\n"),
    });
    filled.collect()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
