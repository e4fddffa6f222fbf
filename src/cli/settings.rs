//! Every setting as a flag: made from the table, never written by hand; and which of them a command
//! reads.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command};

use crate::config::settings::{self as s, ALL, Fallback, Setting};

/// The connection to Redis, and the names there.
const STREAM: &[Setting] = &[
    s::REDIS_URL,
    s::REDIS_CA_FILE,
    s::REDIS_POOL_SIZE,
    s::REDIS_CONNECT_TIMEOUT,
    s::REDIS_RESPONSE_TIMEOUT,
    s::STREAM,
    s::GROUP,
    s::DEAD_LETTER_STREAM,
];
const WAREHOUSE: &[Setting] = &[
    s::DATABASE_URL,
    s::DATABASE_SCHEMA,
    s::DATABASE_POOL_SIZE,
    s::DATABASE_CONNECT_TIMEOUT,
    s::STATEMENT_TIMEOUT,
    s::FORGET_KEY,
];
/// The data folder, and the private listener of the process that has it.
const OWNER: &[Setting] = &[s::DATA_DIR, s::ADMIN_ADDR, s::ADMIN_TOKEN];
/// Access to the Admin API.
const SHOPIFY: &[Setting] = &[
    s::SHOPIFY_SHOP,
    s::SHOPIFY_ADMIN_TOKEN,
    s::SHOPIFY_CLIENT_ID,
    s::SHOPIFY_CLIENT_SECRET,
    s::SHOPIFY_API_VERSION,
    s::SHOPIFY_BUDGET,
    s::SHOPIFY_ADMIN_URL,
    s::SHOP_SECRETS_FILE,
];
/// The database that is captured, and its mapping.
const CAPTURED: &[Setting] = &[
    s::CAPTURE_DATABASE_URL,
    s::CAPTURE_READ_URL,
    s::CAPTURE_FILE,
    s::DATABASE_CONNECT_TIMEOUT,
];
const CAPS: &[Setting] = &[s::STREAM_MAXLEN, s::DEAD_LETTERS_MAXLEN, s::DEDUPE_BY, s::DEDUPE_WINDOW];

/// Adds all settings, before or after any subcommand. `--help` lists those that the command reads,
/// `-h` none. The others are taken all the same: scripts give the same flags to several commands.
pub(super) fn add_to(program: Command) -> Command {
    with_settings(program, false)
}

/// Adds to each command the settings that it reads, and no others.
pub(super) fn add_listed_to(program: Command) -> Command {
    with_settings(program, true)
}

fn with_settings(program: Command, listed_only: bool) -> Command {
    let with_own = |command: Command| {
        let name = command.get_name().to_owned();
        let command = match name.as_str() {
            // Its subcommands read fewer than it does.
            "capture" => each_subcommand(command, |below| {
                let name = format!("capture {}", below.get_name());
                with_flags(below, listed_only, |setting| reads(&name, setting))
            }),
            _ => command,
        };
        with_flags(command, listed_only, |setting| reads(&name, setting))
    };
    with_flags(each_subcommand(program, with_own), listed_only, |_| true)
}

fn each_subcommand(command: Command, change: impl Fn(Command) -> Command) -> Command {
    let names = Vec::from_iter(command.get_subcommands().map(|below| below.get_name().to_owned()));
    names
        .iter()
        .fold(command, |command, name| command.mut_subcommand(name, &change))
}

fn with_flags(command: Command, listed_only: bool, is_shown: impl Fn(&Setting) -> bool) -> Command {
    let settings = ALL.iter().filter(|setting| !listed_only || is_shown(setting));
    settings.fold(command, |command, setting| {
        let own = flag(setting.name, setting.flag())
            .help(help(setting))
            .help_heading(setting.section)
            .hide(!is_shown(setting));
        if listed_only {
            // A global one would be handed down to the commands that do not read it.
            return command.arg(own.global(false));
        }
        let file = setting
            .file_variable()
            .map(|name| flag(&name, format!("{}-file", setting.flag())).hide(true));
        command.arg(own).args(file)
    })
}

/// Whether a command does anything else for that setting than to say that its value is wrong.
fn reads(command: &str, setting: &Setting) -> bool {
    let any = |lists: &[&[Setting]]| lists.concat().iter().any(|one| one.name == setting.name);
    match command {
        "completions" | "man" | "init" => false,
        _ if any(&[&[s::CONFIG]]) => true,
        "serve" => match setting.section {
            // How many entries may be pending, and for how long, is what health compares with.
            "Workers" => any(&[&[s::READ_COUNT, s::CLAIM_IDLE]]),
            "Shopify" => false,
            _ => !any(&[WAREHOUSE, &[s::MIGRATE_DATABASE_URL, s::ERASURE]]),
        },
        "work" => match setting.section {
            "Intake" => any(&[
                CAPS,
                &[
                    s::BODY_LIMIT,
                    s::KEEP_RAW,
                    s::KEEP_NOTE_ATTRIBUTES,
                    s::KEEP_LINE_PROPERTIES,
                ],
            ]),
            "Security" => any(&[OWNER, &[s::FORGET_KEY, s::ERASURE]]),
            _ => !any(&[&[s::LISTEN_ADDR, s::PORT, s::BODY_TIMEOUT, s::SPOOL_LIMIT, s::SPOOL_AFTER]]),
        },
        "capture" => {
            setting.section == "Capture"
                || any(&[
                    STREAM,
                    OWNER,
                    CAPS,
                    &[s::DURABILITY, s::DATABASE_CONNECT_TIMEOUT, s::LOG_FORMAT, s::RUST_LOG],
                ])
                || matches!(setting.section, "Shutdown" | "Health")
        }
        "capture init" | "capture sql" | "capture try" => any(&[CAPTURED]),
        "capture resync" | "capture drop" | "capture adopt" => any(&[CAPTURED, STREAM, OWNER]),
        "send" => any(&[
            STREAM,
            WAREHOUSE,
            OWNER,
            &[s::LISTEN_ADDR, s::PORT, s::SHOPIFY_SECRETS, s::SHOP_SECRETS_FILE],
        ]),
        "migrate" => any(&[WAREHOUSE, &[s::MIGRATE_DATABASE_URL, s::DATA_DIR]]),
        "dead-letters" => any(&[
            STREAM,
            OWNER,
            CAPS,
            &[
                s::KEEP_RAW,
                s::KEEP_NOTE_ATTRIBUTES,
                s::KEEP_LINE_PROPERTIES,
                s::BODY_LIMIT,
            ],
        ]),
        "trace" => any(&[STREAM, WAREHOUSE, OWNER, &[s::SPOOL_LIMIT, s::BODY_LIMIT]]),
        "forget" => any(&[STREAM, WAREHOUSE, OWNER, CAPS, &[s::SPOOL_LIMIT, s::BODY_LIMIT]]),
        "replay" | "rebuild" => any(&[STREAM, WAREHOUSE, OWNER]),
        "drain" => any(&[STREAM, CAPS, &[s::DATA_DIR, s::SPOOL_LIMIT, s::DURABILITY]]),
        "status" => {
            setting.section == "Health" || any(&[STREAM, OWNER, CAPS, &[s::SPOOL_LIMIT, s::READ_COUNT, s::CLAIM_IDLE]])
        }
        "tail" => any(&[STREAM, OWNER]),
        "health" => any(&[&[s::LISTEN_ADDR, s::PORT, s::ADMIN_ADDR, s::DATA_DIR]]),
        "subscribe" => any(&[SHOPIFY]),
        "reconcile" => any(&[STREAM, WAREHOUSE, CAPS, SHOPIFY, &[s::DATA_DIR, s::DURABILITY]]),
        // `run` and `check`: all.
        _ => true,
    }
}

/// Variable → text of the flags that were given.
pub(super) fn given(matches: &ArgMatches) -> BTreeMap<String, String> {
    let (mut found, mut level) = (BTreeMap::new(), Some(matches));
    // clap hands a global flag down to the subcommand it stood before; both levels agree where both
    // know it.
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
