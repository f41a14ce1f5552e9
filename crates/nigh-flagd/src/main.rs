//! The `nigh-flagd` command; see the library for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    nigh_flagd::cli::main()
}
