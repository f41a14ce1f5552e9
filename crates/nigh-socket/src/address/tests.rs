//! What parses, what does not and why, and that printing is its inverse.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{Address, AddressFault, Listen, Role};

fn path(text: &str) -> Address {
    Address::Path(PathBuf::from(text))
}

fn tcp(host: &str, port: u16) -> Address {
    let host = host.to_owned();
    Address::Tcp { host, port }
}

fn https(host: &str, port: u16) -> Address {
    let host = host.to_owned();
    Address::Https { host, port }
}

#[test]
fn names_of_descriptors_are_told_from_numbers() {
    for (text, name) in [
        ("fd:app.socket", "app.socket"),
        ("fd:my%20app", "my app"),
        ("fd:-x", "-x"),
        ("fd:3x", "3x"),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address, Address::Activated(name.into()));
        assert_eq!(address.to_string(), text);
    }
    let longest = "x".repeat(super::DESCRIPTOR_NAME_BYTES_MAX);
    assert!(Address::Activated(longest.clone()).check().is_ok());
    for name in ["", "3", "a:b", "a\n", &(longest + "x")] {
        assert!(Address::Activated(name.into()).check().is_err(), "{name:?}");
    }
}

#[test]
fn every_form_parses_and_prints_its_canonical_form() {
    let table = [
        ("unix:s", path("s"), "unix:s"),
        ("unix:./a/b", path("./a/b"), "unix:./a/b"),
        ("unix:/run/s", path("/run/s"), "unix:/run/s"),
        ("unix:///run/s", path("/run/s"), "unix:/run/s"),
        ("unix:////run/s", path("//run/s"), "unix:////run/s"),
        ("unix:/a%2Fb", path("/a/b"), "unix:/a/b"),
        ("unix:/a b", path("/a b"), "unix:/a%20b"),
        ("unix:/100%25", path("/100%"), "unix:/100%25"),
        ("unix:/a?b#c", path("/a?b#c"), "unix:/a%3Fb%23c"),
        ("unix:/größe\"'\\", path("/größe\"'\\"), "unix:/größe\"'\\"),
        ("unix:/%e2%80%ae", path("/\u{202e}"), "unix:/%E2%80%AE"),
        ("unix:/%0a", path("/\n"), "unix:/%0A"),
        (
            "unix:/%ff",
            Address::Path(OsString::from_vec(b"/\xff".to_vec()).into()),
            "unix:/%FF",
        ),
        ("unix:/a:b", path("/a:b"), "unix:/a:b"),
        (
            "unix-abstract:a/b@c",
            Address::Abstract(b"a/b@c".to_vec()),
            "unix-abstract:a/b@c",
        ),
        (
            "unix-abstract:%00a%ff",
            Address::Abstract(b"\0a\xff".to_vec()),
            "unix-abstract:%00a%FF",
        ),
        ("autobind:", Address::Autobind, "autobind:"),
        ("fd:0", Address::Fd(0), "fd:0"),
        ("fd:003", Address::Fd(3), "fd:3"),
        ("fd:2147483647", Address::Fd(i32::MAX), "fd:2147483647"),
        ("tcp:localhost:80", tcp("localhost", 80), "tcp:localhost:80"),
        ("tcp:127.0.0.1:0", tcp("127.0.0.1", 0), "tcp:127.0.0.1:0"),
        ("tcp:[::1]:65535", tcp("::1", 65535), "tcp:[::1]:65535"),
        (
            "tcp:[fe80::1%eth0]:1",
            tcp("fe80::1%eth0", 1),
            "tcp:[fe80::1%eth0]:1",
        ),
        (
            "https://example.com.:443",
            https("example.com.", 443),
            "https://example.com.:443",
        ),
        ("https://[::1]:443", https("::1", 443), "https://[::1]:443"),
        (
            "published:/run/a%20b",
            Address::Published("/run/a b".into()),
            "published:/run/a%20b",
        ),
        (
            "published:////x",
            Address::Published("//x".into()),
            "published:////x",
        ),
    ];
    for (text, address, printed) in table {
        assert_eq!(text.parse::<Address>().as_ref(), Ok(&address), "{text}");
        assert_eq!(address.to_string(), printed, "{text}");
        assert_eq!(printed.parse::<Address>(), Ok(address), "{printed}");
    }
}

/// A text that is no address, what is wrong with it, and the offset that is blamed.
type Refused<'a> = (&'a str, AddressFault, Option<usize>);

fn assert_refused(table: &[Refused<'_>]) {
    for (text, fault, offset) in table {
        let error = text.parse::<Address>().unwrap_err();
        assert_eq!((error.fault(), error.offset()), (*fault, *offset), "{text}");
        assert_eq!(error.text(), *text);
    }
}

#[test]
fn every_local_fault_is_named_and_located() {
    let long_path = format!("unix:/{}", "x".repeat(4095));
    let long_name = format!("unix-abstract:{}", "x".repeat(108));
    assert_refused(&[
        ("", AddressFault::Empty, None),
        ("/run/s", AddressFault::UnknownScheme, None),
        ("@name", AddressFault::UnknownScheme, None),
        ("Unix:/s", AddressFault::UnknownScheme, Some(0)),
        ("http://x:1", AddressFault::UnknownScheme, Some(0)),
        ("unix:", AddressFault::NoPath, Some(5)),
        ("unix://", AddressFault::NoPath, Some(7)),
        ("unix://host/s", AddressFault::PathWithHost, Some(7)),
        ("unix://s", AddressFault::PathWithHost, Some(7)),
        ("unix:///", AddressFault::Directory, Some(7)),
        ("unix:/run/", AddressFault::Directory, Some(5)),
        ("unix:/run/.", AddressFault::Directory, Some(5)),
        ("unix:..", AddressFault::Directory, Some(5)),
        ("unix:/a%00b", AddressFault::Nul, Some(5)),
        ("unix:/a\0b", AddressFault::Nul, Some(5)),
        ("unix:/a%", AddressFault::BadEscape, Some(7)),
        ("unix:/a%2", AddressFault::BadEscape, Some(7)),
        ("unix:///a%zz", AddressFault::BadEscape, Some(9)),
        ("unix:/ä%ß", AddressFault::BadEscape, Some(8)),
        (
            &long_path,
            AddressFault::PathTooLong { bytes: 4096 },
            Some(5),
        ),
        ("published:", AddressFault::NoPath, Some(10)),
        ("published:/run/", AddressFault::Directory, Some(10)),
        ("unix-abstract:", AddressFault::NoName, Some(14)),
        ("unix-abstract:%g0", AddressFault::BadEscape, Some(14)),
        (
            &long_name,
            AddressFault::NameTooLong { bytes: 108 },
            Some(14),
        ),
        ("autobind:x", AddressFault::AutobindWithText, Some(9)),
        ("fd:", AddressFault::BadDescriptor, Some(3)),
        ("fd:-1", AddressFault::BadDescriptor, Some(3)),
        ("fd:+1", AddressFault::BadDescriptor, Some(3)),
        ("fd:2147483648", AddressFault::BadDescriptor, Some(3)),
        ("fd:a:b", AddressFault::BadDescriptor, Some(3)),
        ("fd:a%0A", AddressFault::BadDescriptor, Some(3)),
        ("fd:\u{e9}", AddressFault::BadDescriptor, Some(3)),
    ]);
}

#[test]
fn every_remote_fault_is_named_and_located() {
    let long_host = format!("tcp:{}:1", "x".repeat(254));
    assert_refused(&[
        ("tcp:", AddressFault::NoHost, Some(4)),
        ("tcp::80", AddressFault::NoHost, Some(4)),
        ("tcp:host", AddressFault::NoPort, Some(8)),
        ("tcp:host:", AddressFault::NoPort, Some(8)),
        ("tcp:host:65536", AddressFault::BadPort, Some(9)),
        ("tcp:host:+1", AddressFault::BadPort, Some(9)),
        ("tcp:[::1]", AddressFault::NoPort, Some(9)),
        ("tcp:[::1]80", AddressFault::NoPort, Some(9)),
        ("tcp:[::1", AddressFault::BadHost, Some(4)),
        ("tcp:[localhost]:1", AddressFault::BadHost, Some(4)),
        ("tcp:[fe80::1%]:1", AddressFault::BadHost, Some(4)),
        ("tcp:::1:80", AddressFault::UnbracketedIpv6, Some(4)),
        ("tcp:*:80", AddressFault::BadHost, Some(4)),
        ("tcp:a..b:80", AddressFault::BadHost, Some(4)),
        ("tcp:1.2.3.400:80", AddressFault::BadHost, Some(4)),
        ("tcp:user@host:80", AddressFault::BadHost, Some(4)),
        (
            &long_host,
            AddressFault::HostTooLong { bytes: 254 },
            Some(4),
        ),
        ("https:host:1", AddressFault::NoSlashes, Some(6)),
        ("https://host", AddressFault::NoPort, Some(12)),
        ("https://host:0", AddressFault::BadPort, Some(13)),
        ("https://host:1/", AddressFault::PathBehindPort, Some(14)),
    ]);
}

#[test]
fn the_limits_themselves_are_allowed() {
    for text in [
        format!("unix:/{}", "x".repeat(4094)),
        format!("unix-abstract:{}", "%00".repeat(107)),
        format!("tcp:{}:1", "x".repeat(253)),
    ] {
        assert!(text.parse::<Address>().is_ok(), "{text}");
    }
}

#[test]
fn messages_are_one_line_and_count_characters() {
    let message = |text: &str| text.parse::<Address>().unwrap_err().to_string();
    assert_eq!(
        message("unix:/ä\n%"),
        "address \"unix:/ä\\n%\" has a \"%\" that is not followed by two hexadecimal digits (character 9)"
    );
    assert_eq!(message(""), "address \"\" names nothing");
    let long = message(&"x".repeat(10_000));
    assert!(long.len() < 300, "{long}");
    assert_eq!(
        message("unix-abstract:"),
        "address \"unix-abstract:\" has no name (character 15)"
    );
}

#[test]
fn a_listener_has_a_role_and_no_https() {
    let table = [
        ("unix:s", Role::Stream),
        ("drpc:unix:s", Role::Drpc),
        ("seqpacket:unix-abstract:s", Role::Seqpacket),
        ("dgram:autobind:", Role::Datagram),
        ("drpc:fd:3", Role::Drpc),
        ("tcp:[::]:0", Role::Stream),
    ];
    for (text, role) in table {
        let listen: Listen = text.parse().unwrap();
        assert_eq!((listen.role, listen.to_string().as_str()), (role, text));
    }
    let faults = [
        ("https://h:1", AddressFault::HttpsListener, None),
        ("drpc:https://h:1", AddressFault::HttpsListener, None),
        ("published:/f", AddressFault::PublishedListener, None),
        (
            "seqpacket:published:/f",
            AddressFault::PublishedListener,
            None,
        ),
        (
            "dgram:tcp:h:1",
            AddressFault::PacketsOverTcp {
                role: Role::Datagram,
            },
            None,
        ),
        ("stream:unix:s", AddressFault::UnknownScheme, Some(0)),
        ("drpc:", AddressFault::Empty, None),
        ("drpc:drpc:unix:s", AddressFault::UnknownScheme, Some(5)),
        ("dgram:unix:/a%q", AddressFault::BadEscape, Some(13)),
    ];
    for (text, fault, offset) in faults {
        let error = text.parse::<Listen>().unwrap_err();
        assert_eq!((error.fault(), error.offset()), (fault, offset), "{text}");
        assert_eq!(error.text(), text);
    }
    assert_eq!(
        "https://h:1".parse::<Listen>().unwrap_err().to_string(),
        "address \"https://h:1\" is for clients only: a server cannot listen on https:"
    );
}

#[test]
fn conversions_take_paths_literally_and_check_what_was_not_parsed() {
    fn takes<A: TryInto<Address>>(address: A) -> Result<Address, super::AddressError>
    where
        super::AddressError: From<A::Error>,
    {
        Ok(address.try_into()?)
    }
    assert_eq!(takes("unix:/x"), Ok(path("/x")));
    assert_eq!(takes(String::from("unix:/x")), Ok(path("/x")));
    assert_eq!(takes(Path::new("/a%20b")), Ok(path("/a%20b")));
    assert_eq!(takes(PathBuf::from("unix:x")), Ok(path("unix:x")));
    assert_eq!(takes(Address::Autobind), Ok(Address::Autobind));
    assert_eq!(takes(&Address::Autobind), Ok(Address::Autobind));
    let fault = |address: Address| address.check().unwrap_err().fault();
    assert_eq!(fault(path("")), AddressFault::NoPath);
    assert_eq!(fault(path("a/")), AddressFault::Directory);
    assert_eq!(fault(Address::Fd(-1)), AddressFault::BadDescriptor);
    assert_eq!(fault(Address::Abstract(Vec::new())), AddressFault::NoName);
    assert_eq!(fault(tcp("a b", 1)), AddressFault::BadHost);
    assert_eq!(fault(https("h", 0)), AddressFault::BadPort);
    let refused = Listen::try_from(https("h", 1)).unwrap_err();
    assert_eq!(refused.fault(), AddressFault::HttpsListener);
    assert!(Listen::new(Role::Drpc, path("s")).is_ok());
}

fn bytes(address: &Address) -> Vec<u8> {
    match address {
        Address::Path(path) | Address::Published(path) => path.as_os_str().as_bytes().to_vec(),
        other => other.to_string().into_bytes(),
    }
}

fn any_address() -> impl Strategy<Value = Address> {
    let host = prop_oneof![
        "[a-z][a-z0-9_-]{0,10}(\\.[a-z]{1,5}){0,3}",
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
    ];
    let raw_path = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..60),
        ".{1,30}".prop_map(String::into_bytes),
        "[/.a%? ]{1,12}".prop_map(String::into_bytes),
    ];
    prop_oneof![
        raw_path
            .clone()
            .prop_map(|raw| Address::Path(OsString::from_vec(raw).into())),
        raw_path.prop_map(|raw| Address::Published(OsString::from_vec(raw).into())),
        prop::collection::vec(any::<u8>(), 1..=107).prop_map(Address::Abstract),
        Just(Address::Autobind),
        (0..=i32::MAX).prop_map(Address::Fd),
        (host.clone(), any::<u16>()).prop_map(|(host, port)| Address::Tcp { host, port }),
        (host, 1..=u16::MAX).prop_map(|(host, port)| Address::Https { host, port }),
    ]
    .prop_filter("valid", |address| address.check().is_ok())
}

proptest! {
    #[test]
    fn printing_then_parsing_is_the_identity(address in any_address()) {
        let printed = address.to_string();
        let parsed: Address = printed.parse().unwrap();
        prop_assert_eq!(bytes(&parsed), bytes(&address));
        prop_assert_eq!(parsed, address);
        prop_assert!(printed.chars().all(|c| !c.is_whitespace() && !c.is_control()));
    }

    #[test]
    fn a_listener_prints_and_parses(address in any_address(), role in 0..4_usize) {
        let role = [Role::Stream, Role::Drpc, Role::Seqpacket, Role::Datagram][role];
        if let Ok(listen) = Listen::new(role, address) {
            prop_assert_eq!(listen.to_string().parse::<Listen>(), Ok(listen));
        }
    }

    #[test]
    fn no_text_panics_and_what_parses_is_valid(text in "(drpc:|dgram:)?(unix:|unix-abstract:|fd:|tcp:|https://|published:)?.{0,40}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert!(address.check().is_ok());
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
        if let Err(error) = text.parse::<Listen>() {
            prop_assert!(error.offset().is_none_or(|at| at <= text.len()));
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
