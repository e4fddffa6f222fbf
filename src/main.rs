//! orderstream: arguments → run → exit code. The map of the program is `lib.rs`.

use std::process::ExitCode;

/// Bodies of megabytes come and go. glibc raises its threshold for `mmap` to their size and keeps
/// what they leave behind: 2,000 orders of 4.6 MiB within a budget of 256 MiB peak at 450 to 490 MiB
/// with glibc and at 360 MiB with mimalloc, in a debug build.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orderstream::cli::main(std::env::args_os(), std::env::vars_os())
}
