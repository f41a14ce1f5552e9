//! The arguments of `nigh drpc`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nigh_socket::Address;

use super::{OriginArgs, server};
use crate::call::schema::Origin;
use crate::duration;

/// Arguments of `nigh drpc`.
#[derive(Debug, Args)]
pub struct DrpcArgs {
    /// The server's address.
    #[arg(value_name = "ADDR", value_parser = server)]
    pub address: Address,
    /// The module: a number, or a name that DAOS has.
    #[arg(value_name = "MODULE", allow_negative_numbers = true)]
    pub module: Option<String>,
    /// The method: a number, or a name that DAOS has.
    #[arg(value_name = "METHOD", allow_negative_numbers = true)]
    pub method: Option<String>,
    /// The body: hexadecimal digits, a file or standard input; with --proto, JSON. Without it, empty.
    #[arg(value_name = "HEX|@FILE|-|JSON")]
    pub input: Option<String>,
    /// The body is JSON of this message type: a known one (drpc.Hello), or one of --proto-file. The answer is shown as
    /// JSON of the second type, which a known method need not be told.
    #[arg(long, value_name = "TYPE[:TYPE]")]
    pub proto: Option<String>,
    /// Take message types from this file, too. May be repeated.
    #[arg(long, value_name = "FILE", requires = "proto")]
    pub proto_file: Vec<PathBuf>,
    /// Folder that imports are relative to. May be repeated.
    #[arg(
        short = 'I',
        long = "import",
        value_name = "DIR",
        requires = "proto_file"
    )]
    pub imports: Vec<PathBuf>,
    /// Take message types from a compiled FileDescriptorSet.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "proto_file",
        requires = "proto"
    )]
    pub descriptor_set: Option<PathBuf>,
    /// How messages are put into packets: chunked since DAOS 2.8, legacy before; probe finds out.
    #[arg(long, value_enum, default_value_t)]
    pub framing: FramingChoice,
    /// Send a descriptor of this file, opened for reading, or of standard input (-). May be repeated.
    #[arg(long, value_name = "FILE|-")]
    pub fd: Vec<PathBuf>,
    /// Longest time for connecting and for the call; a server of this project is told.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5s")]
    pub timeout: Duration,
    /// Wait, within the timeout, for a server that is not there yet.
    #[arg(long)]
    pub wait: bool,
    /// Print one JSON object: answer, status, descriptors and timing.
    #[arg(long)]
    pub json: bool,
}

impl DrpcArgs {
    /// Where the user's types are described; reflection if nowhere.
    pub fn described(&self) -> Origin {
        let origin = OriginArgs {
            proto: self.proto_file.clone(),
            imports: self.imports.clone(),
            descriptor_set: self.descriptor_set.clone(),
        };
        origin.origin()
    }
}

/// How to put messages into packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FramingChoice {
    /// A header in each packet.
    #[default]
    Chunked,
    /// One packet is one message.
    Legacy,
    /// Ask the server first.
    Probe,
}
