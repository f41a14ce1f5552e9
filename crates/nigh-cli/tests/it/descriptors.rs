//! Descriptors on the command line: files that requests mention, what replies bring, and what the server opens.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use nigh_testkit::TempSocket;
use serde_json::Value;

use crate::program::{Ran, Serving, nigh, nigh_reading};
use crate::support::{Reflection, Stock};

const DIAG: &str = "nigh.diag.v1.Diag";

fn served(options: &[&str]) -> (TempSocket, Serving) {
    let socket = TempSocket::private();
    let serving = Serving::start(&[&socket.address()], options);
    (socket, serving)
}

fn file(place: &TempSocket, name: &str, content: &str) -> PathBuf {
    let path = place.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn arg(field: &str, path: &Path) -> String {
    format!("{field}={}", path.display())
}

async fn call(socket: &TempSocket, method: &str, rest: &[&str]) -> Ran {
    let (address, method) = (socket.address(), format!("{DIAG}/{method}"));
    nigh(&[&["call", &address, &method], rest].concat()).await
}

#[tokio::test]
async fn a_server_describes_what_is_attached() {
    let (socket, _serving) = served(&[]);
    let (one, two) = (
        file(&socket, "one", "twelve bytes"),
        file(&socket, "two", ""),
    );
    let (fd_one, fd_two) = (arg("fds", &one), arg("fds", &two));
    // The list of the message's own indices comes first; those of the descriptors are put behind.
    let ran = call(&socket, "Stat", &["--fd", &fd_one, "--fd", &fd_two]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let reply: Value = serde_json::from_str(&ran.stdout).unwrap();
    let [first, second] = reply["fds"].as_array().unwrap().as_slice() else {
        panic!("{reply}");
    };
    assert_eq!(first["kind"], "a regular file");
    assert_eq!(first["access"], "for reading");
    assert_eq!(first["size"], "12");
    let inode = std::fs::metadata(&one).unwrap().ino().to_string();
    assert_eq!(first["inode"], inode.as_str());
    assert_eq!(second["fd"], 1);
}

#[tokio::test]
async fn files_go_there_and_come_back_by_swap() {
    let (socket, _serving) = served(&[]);
    let (one, two) = (
        file(&socket, "one", "first"),
        file(&socket, "two", "second"),
    );
    let out = socket.join("out");
    let (fd_one, fd_two) = (arg("fds", &one), arg("fds", &two));
    let saved = arg("fds", &out);
    let arguments = ["--fd", &fd_one, "--fd", &fd_two, "--save-fd", &saved];
    let ran = call(&socket, "Swap", &arguments).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "first");
    let second = socket.join("out.2");
    assert_eq!(std::fs::read_to_string(&second).unwrap(), "second");
    let line = ran.stderr.lines().next().unwrap();
    let words = format!("a regular file, for reading, 5 bytes, to {}", out.display());
    assert!(
        line.starts_with("fds: descriptor ") && line.ends_with(&words),
        "{line}"
    );

    // A pipe, and everything in one object.
    let (address, method) = (socket.address(), format!("{DIAG}/Swap"));
    let arguments = [
        "call",
        &address,
        &method,
        "--fd",
        "fds=-",
        "--save-fd",
        &saved,
        "--json",
    ];
    let ran = nigh_reading("through a pipe", &arguments).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "through a pipe");
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(object["descriptors"][0]["kind"], "a named pipe");
    assert_eq!(object["messages"][0]["came"][0]["access"], "for reading");

    // Described only; a directory has no content to save.
    let fd = arg("fds", socket.directory());
    let ran = call(&socket, "Swap", &["--fd", &fd, "--save-fd", "fds"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("a directory, for reading"),
        "{}",
        ran.stderr
    );
    let ran = call(&socket, "Swap", &["--fd", &fd, "--save-fd", &saved]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("no content"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_stream_of_requests_mentions_files_in_its_first() {
    let (socket, _serving) = served(&[]);
    let fd = arg("fds", &file(&socket, "one", "first"));
    let (address, method) = (socket.address(), format!("{DIAG}/Swap"));
    let arguments = ["call", &address, &method, "-", "--fd", &fd];
    let ran = nigh_reading("{} {}", &arguments).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let replies: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(replies.len(), 2);
    assert_eq!(replies[0]["came"][0]["size"], "5");
    assert_eq!(replies[1], serde_json::json!({}));
}

async fn open(socket: &TempSocket, path: &str, write: bool, rest: &[&str]) -> Ran {
    let input = serde_json::json!({"path": path, "write": write}).to_string();
    call(socket, "OpenFile", &[&[input.as_str()], rest].concat()).await
}

#[tokio::test]
async fn files_are_opened_beneath_the_open_root_and_nowhere_else() {
    let place = TempSocket::private();
    file(&place, "secret", "outside");
    let root = place.join("root");
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(root.join("sub/a"), "inside").unwrap();
    symlink(place.join("secret"), root.join("way-out")).unwrap();
    symlink("../secret", root.join("way-up")).unwrap();
    symlink("sub/a", root.join("within")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    let root = root.to_str().unwrap();
    let (socket, _serving) = served(&["--open-root", root]);
    let saved = arg("fd", &place.join("out"));
    for name in ["sub/a", "within", "sub/../sub/a"] {
        let ran = open(&socket, name, false, &["--save-fd", &saved]).await;
        assert_eq!(ran.code, 0, "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains("for reading,"), "{}", ran.stderr);
        let content = std::fs::read_to_string(place.join("out")).unwrap();
        assert_eq!(content, "inside");
        std::fs::remove_file(place.join("out")).unwrap();
    }
    const DENIED: i32 = 16 + 7;
    for (name, write, code, words) in [
        ("../secret", false, DENIED, "leads out"),
        ("/etc/passwd", false, DENIED, "leads out"),
        ("way-out", false, DENIED, "leads out"),
        ("way-up", false, DENIED, "leads out"),
        ("magic", false, DENIED, ""),
        ("sub/a", true, DENIED, "--open-write"),
        ("missing", false, 16 + 5, "missing"),
        ("sub", false, 16 + 9, "only regular files"),
        ("", false, 16 + 5, ""),
    ] {
        let ran = open(&socket, name, write, &["--save-fd", &saved]).await;
        assert_eq!(ran.code, code, "{name}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(words), "{name}: {}", ran.stderr);
        assert!(!place.join("out").exists(), "{name}");
    }
    // Who did not ask for descriptors gets none, and is told so.
    let ran = open(&socket, "sub/a", false, &[]).await;
    assert_eq!(ran.code, 16 + 9, "{}", ran.stderr);
    assert!(ran.stderr.contains("without descriptors"), "{}", ran.stderr);

    let (writable, _serving) = served(&["--open-root", root, "--open-write"]);
    let ran = open(&writable, "sub/a", true, &["--save-fd", "fd"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("for reading and writing"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn without_an_open_root_no_file_is_opened() {
    let (socket, _serving) = served(&[]);
    let ran = open(&socket, "etc/hostname", false, &["--save-fd", "fd"]).await;
    assert_eq!(ran.code, 16 + 9);
    assert!(ran.stderr.contains("--open-root"), "{}", ran.stderr);
    let missing = ["serve", "autobind:", "--open-root", "/no/such/folder"];
    let ran = nigh(&missing).await;
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("/no/such/folder"), "{}", ran.stderr);
}

#[tokio::test]
async fn what_cannot_be_attached_or_saved_is_said_before_the_call() {
    let (socket, _serving) = served(&[]);
    let here = arg("fds", &file(&socket, "one", ""));
    let text = here.replace("fds=", "text=");
    for (method, arguments, words, hint) in [
        ("Stat", ["--fd", "fds=/no/such/file"], "/no/such/file", ""),
        (
            "Stat",
            ["--fd", &here.replace("fds=", "fdss=")],
            "no field",
            "fds?",
        ),
        ("Echo", ["--fd", &text], "no integer", ""),
        (
            "Swap",
            ["--save-fd", "came.fdd=/x"],
            "no field `fdd`",
            "mean fd",
        ),
        (
            "Stat",
            ["--fd", &arg("fds", socket.path())],
            "cannot open",
            "connected to it",
        ),
    ] {
        let ran = call(&socket, method, &arguments).await;
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
        assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    }
    // What a reply mentions and did not bring.
    let ran = call(&socket, "Swap", &["{\"fds\":[3]}"]).await;
    assert_eq!(ran.code, 16 + 3, "{}", ran.stderr);
}

#[tokio::test]
async fn where_nothing_can_be_carried_the_call_fails_and_says_why() {
    let stock = Stock::start(Reflection::V1);
    let address = format!("unix:{}", stock.path().display());
    let method = format!("{DIAG}/Stat");
    let ran = nigh(&["call", &address, &method, "--fd", "fds=/dev/null"]).await;
    assert_eq!(ran.code, 16 + 9, "{}", ran.stderr);
    assert!(ran.stderr.contains("not nigh"), "{}", ran.stderr);
}

#[tokio::test]
async fn each_wire_of_a_server_carries_files() {
    let (socket, _serving) = served(&[]);
    for wire in ["nigh", "http2", "auto"] {
        let arguments = ["--fd", "fds=/dev/null", "--wire", wire];
        let ran = call(&socket, "Stat", &arguments).await;
        assert_eq!(ran.code, 0, "{wire}: {}", ran.stderr);
        assert!(ran.stdout.contains("a device"), "{}", ran.stdout);
    }
}
