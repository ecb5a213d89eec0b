//! The `headpond` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    headpond::cli::main()
}
