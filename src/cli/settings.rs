//! Every setting as a flag: made from the table, never written by hand.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command};

use crate::config::settings::{ALL, Fallback, Setting};

/// Adds all settings, before or after any subcommand. `--help` lists them, `-h` does not.
pub(super) fn add_to(program: Command) -> Command {
    ALL.iter().fold(program, |program, setting| {
        let own = flag(setting.name, setting.flag())
            .help(help(setting))
            .help_heading(setting.section);
        let file = setting
            .file_variable()
            .map(|name| flag(&name, format!("{}-file", setting.flag())).hide(true));
        program.arg(own).args(file)
    })
}

/// Variable → text of the flags that were given.
pub(super) fn given(matches: &ArgMatches) -> BTreeMap<String, String> {
    let (mut found, mut level) = (BTreeMap::new(), Some(matches));
    // clap hands a global flag down to the subcommand it stood before; both levels agree where both know it.
    while let Some(matches) = level {
        for name in ALL
            .iter()
            .flat_map(|setting| [Some(setting.name.to_owned()), setting.file_variable()])
            .flatten()
        {
            if let Ok(Some(value)) = matches.try_get_one::<String>(&name) {
                found.insert(name, value.clone());
            }
        }
        level = matches.subcommand().map(|(_, below)| below);
    }
    found
}

fn flag(id: &str, long: String) -> Arg {
    Arg::new(id.to_owned())
        .long(long)
        .value_name("VALUE")
        .global(true)
        .hide_short_help(true)
        .allow_hyphen_values(false)
}

fn help(setting: &Setting) -> String {
    let default = match setting.default {
        Fallback::Text(text) => format!(" [default: {text}]"),
        Fallback::Derived(how) => format!(" [default: {how}]"),
        Fallback::Unset => String::new(),
    };
    let file = setting
        .file_variable()
        .map(|name| format!(" or {name}"))
        .unwrap_or_default();
    format!("{}{default} [{}{file}]", setting.help, setting.name)
}
