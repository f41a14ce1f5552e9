//! Where `start` listens: the sockets and ports that were named, or flagd's.

use std::path::Path;

use nigh::{
    Address, BindError, Existing, HandoverOptions, Listener, ListenerOptions, Policy, Server,
    ServerTls, Succession,
};

use super::Failure;
use super::args::StartArgs;

/// flagd's ports: evaluation, management, sync, OFREP.
const PORTS: [u16; 4] = [8013, 8014, 8015, 8016];

/// Binds, or gets what the daemon has that is replaced.
struct Listening {
    succession: Option<Succession>,
    control: Option<Address>,
}

impl Listening {
    async fn begin(args: &StartArgs) -> Result<Self, Failure> {
        let paths = args.socket_path.iter().chain(&args.sync_socket_path);
        let paths = paths.cloned().map(Address::Path);
        let addresses: Vec<Address> = paths.chain(args.listen.iter().cloned()).collect();
        let control = match &args.handover {
            Some(path) => Some(Address::Path(path.clone())),
            None => Succession::beside(&addresses),
        };
        let succession = match &control {
            Some(control) if args.replace => {
                let options = HandoverOptions::default();
                Some(Succession::begin(control.clone(), options).await?)
            }
            _ => None,
        };
        Ok(Self {
            succession,
            control,
        })
    }

    /// Lets another daemon replace this one, where there is a place to ask.
    fn replaceable(self, server: Server) -> Result<Server, Failure> {
        let succession = match (self.succession, self.control) {
            (Some(succession), _) => succession,
            (None, Some(control)) => Succession::first(control, HandoverOptions::default())?,
            (None, None) => return Ok(server),
        };
        Ok(server.replaceable(succession))
    }

    fn bind(&mut self, options: &ListenerOptions, address: Address) -> Result<Listener, BindError> {
        match &mut self.succession {
            Some(succession) => succession.listen(options, address),
            None => options.bind(address),
        }
    }
}

/// Adds every listener to `server`. What flagd's tests wait for is logged in flagd's words.
pub(super) async fn listen(
    mut server: Server,
    args: &StartArgs,
    stands_in: bool,
) -> Result<Server, Failure> {
    let stands_in = stands_in || args.flagd_ports;
    let default = |port: u16, socket: bool| (stands_in && !socket).then_some(port);
    let (evaluation, sync) = (args.socket_path.is_some(), args.sync_socket_path.is_some());
    let ports = [
        (
            args.port.or(default(PORTS[0], evaluation)),
            "Flag IResolver listening at",
        ),
        (
            args.management_port.or(default(PORTS[1], false)),
            "metrics and probes listening at",
        ),
        (
            args.sync_port.or(default(PORTS[2], sync)),
            "flag sync service listening at",
        ),
        (
            args.ofrep_port.or(default(PORTS[3], false)),
            "ofrep service listening at",
        ),
    ];
    let policy = args.allow.clone().unwrap_or_else(Policy::same_user);
    // Said last: whoever reads it may ask to replace this daemon at once.
    let mut said = Vec::new();
    let mut listening = Listening::begin(args).await?;
    for path in args.socket_path.iter().chain(&args.sync_socket_path) {
        let address = Address::Path(path.to_owned());
        let listener = bind_address(&mut listening, &address, args)?;
        server = server.listen_for(listener, policy.clone());
        said.push(format!("Flag IResolver listening at {}", path.display()));
    }
    for address in &args.listen {
        let listener = bind_address(&mut listening, address, args)?;
        said.push(format!("Flag IResolver listening at {address}"));
        server = server.listen_for(listener, policy.clone());
    }
    let tls = tls(args)?;
    for (port, words) in ports {
        let Some(port) = port else { continue };
        let listener = bind_port(&mut listening, port)?;
        // OFREP's line has the bare port, the others an address: so they are waited for.
        said.push(match words.starts_with("ofrep") {
            true => format!("{words} {port}"),
            false => format!("{words} [::]:{port}"),
        });
        // Callers over TCP have no uid: whoever opens a port lets everybody in, as flagd does.
        server = match &tls {
            Some(tls) => server.listen_tls(listener, Policy::any(), tls.clone()),
            None => server.listen_for(listener, Policy::any()),
        };
    }
    if said.is_empty() {
        return Err(Failure::NoListener);
    }
    let server = listening.replaceable(server)?;
    for line in said {
        tracing::info!("{line}");
    }
    Ok(server)
}

fn bind_address(
    listening: &mut Listening,
    address: &Address,
    args: &StartArgs,
) -> Result<Listener, Failure> {
    let mut options = Listener::options().existing(if args.replace {
        Existing::TakeOver
    } else {
        Existing::ReplaceStale
    });
    if let Some(mode) = args.socket_mode {
        options = options.mode(mode);
    }
    if let Some(group) = &args.socket_group {
        options = options.group(group);
    }
    Ok(listening.bind(&options, address.clone())?)
}

/// Both IP versions where there are two.
fn bind_port(listening: &mut Listening, port: u16) -> Result<Listener, Failure> {
    let mut bind = |host: &str| {
        let host = host.to_owned();
        listening.bind(&Listener::options(), Address::Tcp { host, port })
    };
    Ok(bind("::").or_else(|_| bind("0.0.0.0"))?)
}

fn tls(args: &StartArgs) -> Result<Option<ServerTls>, Failure> {
    let (Some(certificate), Some(key)) = (&args.server_cert_path, &args.server_key_path) else {
        return Ok(None);
    };
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| Failure::Read {
            path: path.to_owned(),
            source,
        })
    };
    Ok(Some(ServerTls::new(&read(certificate)?, &read(key)?)?))
}
