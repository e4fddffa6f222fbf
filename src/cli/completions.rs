//! `completions` and `man`: what a shell and a reader of manual pages know of the command line,
//! made from its definition.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::{Failure, output};

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orderstream completions bash > /etc/bash_completion.d/orderstream
  orderstream completions zsh > \"${fpath[1]}/_orderstream\"
  orderstream completions fish > ~/.config/fish/completions/orderstream.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Folder that they are written into; it is made where it is missing
    folder: PathBuf,
}

/// Prints the script.
///
/// # Errors
/// It cannot be written.
pub(super) fn completions(args: &CompletionsArgs, mut program: Command) -> Result<(), Failure> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, name, &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end())
}

/// Writes a page for the program and one for each command.
///
/// # Errors
/// The folder or a file of it cannot be written.
pub(super) fn man(args: &ManArgs, program: Command) -> Result<(), Failure> {
    let written = fs::create_dir_all(&args.folder).and_then(|()| clap_mangen::generate_to(program, &args.folder));
    written.map_err(|error| Failure::Unavailable(format!("{}: {error}", args.folder.display())))
}
