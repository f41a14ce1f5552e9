//! `nigh completions` and `nigh man`: generated from the arguments themselves, so that they cannot disagree.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::error::Failure;
use crate::output;

/// Prints a completion script.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nigh", &mut script);
    print(&script)
}

/// Prints the manual's first page, or writes all pages into a folder.
pub(crate) fn man(folder: Option<&Path>) -> Result<(), Failure> {
    if let Some(folder) = folder {
        clap_mangen::generate_to(Cli::command(), folder)?;
        return Ok(());
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    print(&page)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    match std::str::from_utf8(text) {
        Ok(text) => Ok(output::print(text)?),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error).into()),
    }
}
