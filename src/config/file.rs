//! The configuration file: settings under the names of their variables, as TOML.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Spanned, Value};

use super::layers::{ConfigProblem, read_file};
use super::settings::CONFIG;
use super::suggest;

/// Variable → text, of all that the file sets; and all that is wrong with it, each with its line and
/// without any value: it may hold secrets.
pub(super) fn read(path: &Path) -> (BTreeMap<String, String>, Vec<ConfigProblem>) {
    parse(path).unwrap_or_else(|problem| (BTreeMap::new(), vec![problem]))
}

fn parse(path: &Path) -> Result<(BTreeMap<String, String>, Vec<ConfigProblem>), ConfigProblem> {
    let of_file = |problem: String| {
        let expected = "a TOML file of lines like ORDERSTREAM_WORKERS = 4".to_owned();
        let variable = CONFIG.name.to_owned();
        ConfigProblem {
            variable,
            problem,
            expected,
        }
    };
    let shown = path.display();
    let text = read_file(path).map_err(|why| of_file(format!("{shown} {why}")))?;
    let line = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
    let members: BTreeMap<Spanned<String>, Spanned<Value>> = toml::from_str(&text).map_err(|error| {
        let at = line(error.span().map_or(0, |span| span.start));
        of_file(format!("{shown} is no TOML at line {at}, or names a setting twice"))
    })?;
    let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
    for (name, value) in members {
        let place = format!("{shown}, line {}", line(name.span().start));
        let name = name.into_inner();
        let mut refuse = |problem: &str, expected: String| {
            problems.push(ConfigProblem {
                variable: name.clone(),
                problem: format!("{problem} ({place})"),
                expected,
            });
        };
        if name == CONFIG.name {
            refuse("a configuration file names no other", "a flag or a variable".to_owned());
        } else if !suggest::known().any(|known| known == name) {
            let meant = suggest::similar(&name).map(|meant| format!("{meant}, which is similar"));
            let expected = meant.unwrap_or_else(|| "a name of `orderstream --help`".to_owned());
            refuse("not a setting", expected);
        } else if let Some(text) = text_of(value.into_inner()) {
            found.insert(name, text);
        } else {
            let expected = "a text in quotes, a whole number, or a list of texts".to_owned();
            refuse("not a value of a setting", expected);
        }
    }
    Ok((found, problems))
}

/// As it would stand in a variable.
fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Integer(number) => Some(number.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.into_iter().map(|item| item.as_str().map(str::to_owned)).collect();
            Some(items?.join(","))
        }
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (BTreeMap<String, String>, Vec<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let shown = file.path().display().to_string();
        let (found, problems) = read(file.path());
        let texts = problems
            .iter()
            .map(|problem| problem.to_string().replace(&shown, "FILE"));
        (found, texts.collect())
    }

    #[test]
    fn texts_numbers_and_lists_are_values() {
        let (found, _) = of("# A comment\nORDERSTREAM_WORKERS = 4\nRUST_LOG = 'warn'\n\
                        ORDERSTREAM_SHOPIFY_SECRETS = [\"one\", \"two\"]\nREDIS_URL_FILE = \"/run/url\"\n");
        let pairs = Vec::from_iter(found.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        assert_eq!(
            pairs,
            [
                ("ORDERSTREAM_SHOPIFY_SECRETS", "one,two"),
                ("ORDERSTREAM_WORKERS", "4"),
                ("REDIS_URL_FILE", "/run/url"),
                ("RUST_LOG", "warn"),
            ]
        );
        assert!(of("").0.is_empty());
    }

    #[test]
    fn all_that_is_wrong_is_said_with_its_line_and_without_a_value() {
        let (found, problems) = of(
            "ORDERSTREAM_WORKERS = 2\nORDERSTREAM_STREM = 's3cret'\n\nadmin-token = 's3cret'\nORDERSTREAM_CONFIG = 's3cret'\n\
                           ORDERSTREAM_ADMIN_TOKEN = true\nORDERSTREAM_API_TOKENS = ['s3cret', 1]\nqqxx = 1\n",
        );
        assert_eq!(found.len(), 1, "what is right is still read");
        for expected in [
            "ORDERSTREAM_STREM: not a setting (FILE, line 2); expected ORDERSTREAM_STREAM, which is similar",
            "admin-token: not a setting (FILE, line 4); expected ORDERSTREAM_ADMIN_TOKEN, which is similar",
            "ORDERSTREAM_CONFIG: a configuration file names no other (FILE, line 5); expected a flag or a variable",
            "ORDERSTREAM_ADMIN_TOKEN: not a value of a setting (FILE, line 6); expected a text in quotes, a whole \
             number, or a list of texts",
            "ORDERSTREAM_API_TOKENS: not a value of a setting (FILE, line 7); expected a text in quotes, a whole \
             number, or a list of texts",
            "qqxx: not a setting (FILE, line 8); expected a name of `orderstream --help`",
        ] {
            assert!(problems.iter().any(|problem| problem == expected), "{problems:#?}");
        }
        assert_eq!(problems.len(), 6);
        for text in [
            "RUST_LOG = 'warn'\nORDERSTREAM_ADMIN_TOKEN = s3cret\n",
            "RUST_LOG = '1'\nRUST_LOG = 's3cret'\n",
        ] {
            let problems = of(text).1.join("\n");
            assert!(
                problems.contains("FILE is no TOML at line 2") && !problems.contains("s3cret"),
                "{problems}"
            );
        }
        let (_, missing) = read(Path::new("/no/such/file"));
        assert!(
            missing[0]
                .to_string()
                .starts_with("ORDERSTREAM_CONFIG: /no/such/file cannot be read")
        );
    }
}
