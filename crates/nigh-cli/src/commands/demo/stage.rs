//! The setting of the demonstration: a server in a process of its own on a private socket, and two clients of it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use nigh::{Address, LocalPeer};
use nigh_socket::group_name;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::Endpoint;

use super::DemoError;
use crate::LOG_VARIABLE;
use crate::diag::pb::diag_client::DiagClient;
use crate::error::Failure;

/// The method that only a group may call of which the caller is not a member.
pub(super) const GUARDED: &str = "Sleep";

/// The flag that the server has.
pub(super) const FLAG: &str = "greeting";

/// Highest group id that is tried for one with a name.
const NAMED_GIDS_MAX: u32 = 1000;

/// Longest path that tonic's own client can connect to, in bytes.
const STOCK_PATH_MAX: usize = 107;

/// A running server and clients that are connected to it.
pub(super) struct Stage {
    // Dropped in this order: the server is killed before its folder goes.
    server: Child,
    folder: Folder,
    address: Address,
    packets: Address,
    gid: u32,
    group: String,
    /// tonic's own client on tonic's own channel.
    pub(super) stock: DiagClient<tonic::transport::Channel>,
    /// The same generated client on nigh's channel, on the nigh wire.
    pub(super) nigh: DiagClient<nigh::Channel>,
    /// The same on nigh's channel over HTTP/2.
    pub(super) http2: DiagClient<nigh::Channel>,
    /// nigh's channel itself.
    pub(super) channel: nigh::Channel,
}

impl Stage {
    /// Starts the server and connects all clients.
    pub(super) async fn set() -> Result<Self, Failure> {
        let folder = Folder::make()?;
        let socket = folder.0.join("s");
        let packets = folder.0.join("d");
        let address = Address::Path(socket.clone());
        let (gid, group) = strange_group();
        let flags = folder.0.join("flags.json");
        fs::write(&flags, flags_with("hello")).map_err(DemoError::Flip)?;
        let server = start(&address, &packets, &flags, gid, false).await?;
        let uri = format!("unix:{}", socket.display());
        let endpoint = Endpoint::from_shared(uri).map_err(DemoError::Stock)?;
        let stock = endpoint.connect().await.map_err(DemoError::Stock)?;
        let channel = nigh::Channel::connect(address.clone()).await?;
        let over_http2 = nigh::Channel::options().wire(nigh::Wire::Http2);
        let http2 = over_http2.connect(address.clone()).await?;
        Ok(Self {
            server,
            folder,
            address,
            packets: Address::Path(packets),
            gid,
            group,
            stock: DiagClient::new(stock),
            nigh: DiagClient::new(channel.clone()),
            http2: DiagClient::new(http2),
            channel,
        })
    }

    /// Where the server listens.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Where it listens for dRPC.
    pub(super) fn packets(&self) -> &Address {
        &self.packets
    }

    /// A place for files, which goes with the stage.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// The group that guards [`GUARDED`].
    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// The server's process.
    pub(super) fn pid(&self) -> u32 {
        self.server.id().unwrap_or(0)
    }

    /// Puts the other value of [`FLAG`] in place, whole.
    pub(super) fn flip(&self) -> io::Result<()> {
        let new = self.folder.0.join("flags.new");
        fs::write(&new, flags_with("welcome"))?;
        fs::rename(new, self.folder.0.join("flags.json"))
    }

    /// Starts another server that replaces the one there is, and waits until that has ended.
    pub(super) async fn replace(&mut self) -> Result<ExitStatus, DemoError> {
        let Address::Path(packets) = &self.packets else {
            return Err(DemoError::NotReady);
        };
        let flags = self.folder.0.join("flags.json");
        let new = start(&self.address, packets, &flags, self.gid, true).await?;
        let mut old = std::mem::replace(&mut self.server, new);
        old.wait().await.map_err(DemoError::Start)
    }

    /// Whether the server left a socket.
    pub(super) fn socket_is_there(&self) -> bool {
        let is_there = |name| fs::symlink_metadata(self.folder.0.join(name)).is_ok();
        is_there("s") || is_there("d") || is_there("s.handover")
    }

    /// Lets the server end, which it does with its standard input, and waits until it has.
    pub(super) async fn stop(&mut self) -> io::Result<ExitStatus> {
        drop(self.server.stdin.take());
        self.server.wait().await
    }
}

/// Runs this same program as a server, and returns once it listens.
async fn start(
    address: &Address,
    packets: &Path,
    flags: &Path,
    gid: u32,
    replaces: bool,
) -> Result<Child, DemoError> {
    let program = std::env::current_exe().map_err(DemoError::Start)?;
    let mut server = Command::new(program)
        .args([
            "serve",
            &address.to_string(),
            &format!("drpc:{}", Address::Path(packets.to_owned())),
            "--json",
            "--until-eof",
        ])
        .args(replaces.then_some("--replace"))
        .arg("--guard")
        .arg(format!("/nigh.diag.v1.Diag/{GUARDED}=group:{gid}"))
        .arg("--flags")
        .arg(flags)
        // The refusal to come is no surprise; what is one should be seen.
        .env(LOG_VARIABLE, "error")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(DemoError::Start)?;
    let stdout = server.stdout.take().ok_or(DemoError::NotReady)?;
    let mut lines = BufReader::new(stdout).lines();
    for _ in 0..2 {
        match lines.next_line().await.map_err(DemoError::Start)? {
            Some(line) if line.contains("\"listening\"") => {}
            _ => return Err(DemoError::NotReady),
        }
    }
    Ok(server)
}

/// A file of flags in which [`FLAG`] has this value.
fn flags_with(value: &str) -> String {
    let flag = json!({"state": "ENABLED", "variants": {"now": value}, "defaultVariant": "now"});
    json!({"flags": {FLAG: flag}}).to_string()
}

/// A group that this process is not in, with a name if there is one: its id and what to call it.
fn strange_group() -> (u32, String) {
    let mine = own_groups();
    let strange = |gid: &u32| !mine.contains(gid);
    let named = (1..=NAMED_GIDS_MAX).filter(strange).find_map(|gid| {
        let name = group_name(gid).ok().flatten()?;
        Some((gid, name))
    });
    named.unwrap_or_else(|| {
        // Groups are few; one of the first numbers is free.
        let gid = (1..u32::MAX).find(strange).unwrap_or(u32::MAX - 1);
        (gid, gid.to_string())
    })
}

/// The groups that a server would see, by asking the kernel as a server does.
fn own_groups() -> Vec<u32> {
    let peer = std::os::unix::net::UnixStream::pair().and_then(|(a, _b)| LocalPeer::of(&a));
    let Ok(peer) = peer else {
        return Vec::new();
    };
    let mut groups = peer.groups().value().cloned().unwrap_or_default();
    groups.extend(peer.gid().value());
    groups
}

/// A new folder that only this user can look into; removed with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, DemoError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let unique = now.map_or(0, |now| now.subsec_nanos());
        let name = format!("nigh-demo-{}-{unique}", std::process::id());
        let mut path = std::env::temp_dir().join(&name);
        if path.as_os_str().len() + 2 > STOCK_PATH_MAX {
            path = Path::new("/tmp").join(&name);
        }
        // Fails if somebody was here first.
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(DemoError::Folder { path, source }),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is in a folder for temporary things.
        let _ = fs::remove_dir_all(&self.0);
    }
}
