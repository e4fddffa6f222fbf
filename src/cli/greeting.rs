//! The greeting of local mode: where everything is, and the command that sends a first order.
//!
//! Text on stderr, in colour on a terminal; where the logs are JSON, one line among them.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use console::style;
use secrecy::ExposeSecret;

use crate::app::Addresses;
use crate::config::{Config, LogFormat, Secret};
use crate::folder;
use crate::telemetry;

/// The folder that a command uses by default.
const USUAL_FOLDER: &str = "./data";

/// What is shown, as far as it is known before the process runs.
pub(super) struct Greeting {
    /// As the user called it.
    program: String,
    data_dir: PathBuf,
    format: LogFormat,
    /// Whether the stores are files: the data folder then names the addresses of its owner.
    keeps_stream: bool,
    keeps_warehouse: bool,
    /// Signs in to the dashboard; only where stderr is a terminal, not a file that would keep it.
    token: Option<Secret>,
}

impl Greeting {
    pub(super) fn new(program: String, config: &Config) -> Self {
        Self {
            program,
            data_dir: config.data_dir.clone(),
            format: config.log.format,
            keeps_stream: config.redis.is_none(),
            keeps_warehouse: config.database.is_none(),
            token: config.admin.token.clone().filter(|_| std::io::stderr().is_terminal()),
        }
    }

    /// Prints it, with the addresses.
    pub(super) fn say(&self, at: Addresses) {
        match self.format {
            // A closed stderr is no failure.
            LogFormat::Text => drop(std::io::stderr().write_all(self.text(at).as_bytes())),
            LogFormat::Json => tracing::info!(
                target: telemetry::START,
                data_dir = %self.data_dir.display(),
                "local mode: secrets were made and are kept in the data folder; send a first order: {}",
                self.command("send", at)
            ),
        }
    }

    fn text(&self, at: Addresses) -> String {
        let title = format!(
            "orderstream {} is running, for this machine only",
            env!("CARGO_PKG_VERSION")
        );
        let mut lines = vec![
            String::new(),
            style(title).for_stderr().bold().to_string(),
            String::new(),
        ];
        let mut row = |name: &str, place: String, note: &str| {
            let (place, note) = (style(place).for_stderr().cyan(), style(note).for_stderr().dim());
            lines.push(format!("  {name:<9} {place}  {note}"));
        };
        if let Some(public) = at.public {
            row(
                "webhooks",
                format!("http://{public}/webhooks/orders"),
                "takes signed orders",
            );
        }
        if let Some(private) = at.private {
            // In the fragment, which no browser sends anywhere.
            let token = self
                .token
                .as_ref()
                .map(|token| format!("#token={}", token.expose_secret()));
            let note = if token.is_some() {
                "live overview; the link signs in, keep it secret"
            } else {
                "live overview; sign in with the admin_token of local-secrets.toml"
            };
            row(
                "dashboard",
                format!("http://{private}/{}", token.unwrap_or_default()),
                note,
            );
        }
        let folder = std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        row("data", folder.display().to_string(), &self.kept().join(", "));

        let command = |command: String| format!("    {}", style(command).for_stderr().green());
        lines.extend([
            String::new(),
            "  Send a first order, in a second terminal:".to_owned(),
            command(self.command("send", at)),
            "  See its health, and what arrived:".to_owned(),
            command(self.command("status", at)),
        ]);
        if self.keeps_warehouse {
            let file = quoted(&self.data_dir.join(folder::WAREHOUSE));
            lines.push(command(format!("sqlite3 {file} 'SELECT * FROM daily_sales'")));
        }
        lines.join("\n") + "\n\n"
    }

    /// What the folder contains.
    fn kept(&self) -> Vec<&'static str> {
        let stream = self.keeps_stream.then_some(folder::STREAM);
        let warehouse = self.keeps_warehouse.then_some(folder::WAREHOUSE);
        [stream, warehouse, Some("secrets made for you")]
            .into_iter()
            .flatten()
            .collect()
    }

    /// A command line for a second terminal in the same folder.
    fn command(&self, name: &str, at: Addresses) -> String {
        let mut line = format!("{} {name}", quoted(Path::new(&self.program)));
        if self.data_dir != Path::new(USUAL_FOLDER) {
            line += &format!(" --data-dir {}", quoted(&self.data_dir));
        }
        if name == "send"
            && let (false, false, Some(public)) = (self.keeps_stream, self.keeps_warehouse, at.public)
        {
            line += &format!(" --url http://{public}");
        }
        line
    }
}

/// For a shell: as it is where that is harmless, else in quotes.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let harmless = |letter: char| letter.is_alphanumeric() || "/._-+@:".contains(letter);
    if !text.is_empty() && text.chars().all(harmless) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn greeting(program: &str, data_dir: &str, keeps: bool, token: Option<Secret>) -> String {
        let greeting = Greeting {
            program: program.to_owned(),
            data_dir: data_dir.into(),
            format: LogFormat::Text,
            keeps_stream: keeps,
            keeps_warehouse: keeps,
            token,
        };
        let at = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        console::strip_ansi_codes(&greeting.text(Addresses {
            public: at(8080),
            private: at(9090),
        }))
        .into_owned()
    }

    #[test]
    fn the_link_is_a_key_only_for_a_person() {
        let with = |token| greeting("orderstream", "./data", true, token);
        let link = "dashboard http://127.0.0.1:9090/";
        assert!(with(Some("key".into())).contains(&format!("{link}#token=key ")));
        assert!(with(None).contains(&format!("{link} ")));
    }

    #[test]
    fn the_line_to_send_works_as_it_stands() {
        let usual = greeting("target/release/orderstream", "./data", true, None);
        assert!(usual.contains("\n    target/release/orderstream send\n"), "{usual}");
        assert!(usual.contains("sqlite3 ./data/warehouse.db "), "{usual}");
        let elsewhere = greeting("orderstream", "/srv/it's", true, None);
        assert!(
            elsewhere.contains(r"    orderstream send --data-dir '/srv/it'\''s'"),
            "{elsewhere}"
        );
        // Without files of its own the process does not own the folder, which then does not name
        // its address.
        let on_servers = greeting("orderstream", "./data", false, None);
        assert!(
            on_servers.contains("    orderstream send --url http://127.0.0.1:8080\n"),
            "{on_servers}"
        );
        assert!(on_servers.contains("    orderstream status\n"), "{on_servers}");
        assert!(!on_servers.contains("warehouse.db"), "{on_servers}");
    }
}
