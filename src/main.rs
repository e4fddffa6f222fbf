//! orderstream: arguments → run → exit code. The map of the program is `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    orderstream::cli::main(std::env::args_os(), std::env::vars_os())
}
