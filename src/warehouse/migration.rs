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
