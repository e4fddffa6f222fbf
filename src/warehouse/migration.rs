//! What a schema version means, whatever store it is in.
//!
//! A migration only adds (tables, nullable columns, views at their end), so that the previous release goes on working
//! beside it; where one cannot, `compatible_from` shuts older programs out.

/// One step.
pub(super) struct Migration {
    pub(super) version: u32,
    pub(super) name: &'static str,
    /// Version that a program must know to go on loading after this step.
    pub(super) compatible_from: u32,
    pub(super) sql: &'static str,
}

impl Migration {
    /// Names of the tables that it creates.
    pub(super) fn tables(&self) -> impl Iterator<Item = &'static str> {
        let lines = self.sql.lines().filter_map(|line| line.strip_prefix("CREATE TABLE "));
        lines.map(|line| {
            let name = line
                .trim_start_matches("IF NOT EXISTS ")
                .trim_start_matches("{schema}.");
            name.split([' ', '(']).next().unwrap_or(name)
        })
    }
}

/// The tables that a schema of that version has; of none (0), those that the first migrations would create.
pub(super) fn tables(migrations: &[Migration], version: u32) -> Vec<&'static str> {
    let applied = |step: &&Migration| version == 0 || step.version <= version;
    migrations.iter().filter(applied).flat_map(Migration::tables).collect()
}

/// Which of the tables that should be there are not, given those that are. A schema of no version that has none of them
/// lacks nothing: it is made at the first start.
pub(super) fn missing(migrations: &[Migration], version: u32, present: &[String]) -> Vec<&'static str> {
    let mut wanted = tables(migrations, version);
    if version == 0 && present.is_empty() {
        return Vec::new();
    }
    wanted.retain(|table| !present.iter().any(|name| name == table));
    wanted
}

/// The state of a schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Installed {
    /// 0: none.
    pub(super) version: u32,
    /// Version that a program must know to load into it.
    pub(super) compatible_from: u32,
}

impl Installed {
    /// What a program that knows versions up to `known` says of a schema that is too new for it. `what` names it.
    pub(super) fn refusal(self, known: u32, what: &str) -> Option<String> {
        (self.compatible_from > known).then(|| {
            format!(
                "{what} is at version {} and needs a program that knows version {}; this one knows {known}: upgrade it",
                self.version, self.compatible_from,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Migration; 2] = [
        Migration {
            version: 1,
            name: "first",
            compatible_from: 1,
            sql: "CREATE TABLE {schema}.a (\n    x text\n);\nCREATE INDEX i ON a (x);\nCREATE TABLE b(x text);",
        },
        Migration {
            version: 2,
            name: "second",
            compatible_from: 1,
            sql: "CREATE TABLE IF NOT EXISTS {schema}.c (x text);",
        },
    ];

    #[test]
    fn what_is_missing_depends_on_the_version() {
        for (version, present, expected) in [
            (0, &[][..], &[][..]),
            (0, &["b"], &["a", "c"]),
            (1, &["a", "b"], &[]),
            (1, &["a"], &["b"]),
            (1, &[], &["a", "b"]),
            (2, &["a", "b"], &["c"]),
        ] {
            let present = Vec::from_iter(present.iter().map(|name: &&str| (*name).to_owned()));
            assert_eq!(missing(&STEPS, version, &present), expected, "{version} {present:?}");
        }
    }
}
