//! The arguments of `nigh handover`.

use clap::Subcommand;
use nigh_socket::{Address, Listen};

/// What `nigh handover` does.
#[derive(Debug, Subcommand)]
pub enum HandoverCommand {
    /// Ask a server what it would hand over, and leave it there
    List {
        /// The server's control socket.
        #[arg(value_name = "CONTROL")]
        control: Address,
        /// Print one JSON object per listener.
        #[arg(long)]
        json: bool,
    },
    /// Take a server's listeners over, and run a command with them: `{0}` is the number of the first one's descriptor
    Fetch {
        /// The server's control socket.
        #[arg(value_name = "CONTROL")]
        control: Address,
        /// The command, as in `nigh handover fetch CONTROL -- nigh serve fd:{0}`.
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Listen, serve nobody, and hand over to the first who asks
    Give {
        /// Where to be asked.
        #[arg(value_name = "CONTROL")]
        control: Address,
        /// What to hold.
        #[arg(required = true, value_name = "ADDR")]
        addresses: Vec<Listen>,
    },
}
