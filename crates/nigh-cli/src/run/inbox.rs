//! What a command says on its `NOTIFY_SOCKET` (sd_notify(3)), read as strictly as it is written. By value.

use std::os::fd::OwnedFd;

/// The longest status that is kept, in characters.
const STATUS_CHARACTERS_MAX: usize = 256;

/// One thing that was said.
#[derive(Debug)]
pub(super) enum Said {
    Ready,
    Reloading,
    Stopping,
    Status(String),
    Alive,
    /// It has found itself broken.
    Broken,
    /// To be kept under this name; watched for hanging up or not.
    Store {
        name: String,
        files: Vec<OwnedFd>,
        polled: bool,
    },
    Forget(String),
}

/// Reads a message; what is not known, or malformed, is left out, as systemd does. Descriptors that nobody asked to keep are
/// closed here, a barrier's among them: what was said before has been taken by then.
pub(super) fn read(text: &str, files: Vec<OwnedFd>) -> Vec<Said> {
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let value = |name: &str| {
        let mut found = lines.iter().filter(|line| line.0 == name);
        found.next().map(|line| line.1)
    };
    let is_set = |name: &str| value(name) == Some("1");
    // A barrier mixed with anything else is ignored, and so is the rest.
    if value("BARRIER").is_some() {
        return Vec::new();
    }
    let mut said = Vec::new();
    if is_set("READY") {
        said.push(Said::Ready);
    }
    if is_set("RELOADING") {
        said.push(Said::Reloading);
    }
    if is_set("STOPPING") {
        said.push(Said::Stopping);
    }
    if let Some(status) = value("STATUS") {
        said.push(Said::Status(
            status.chars().take(STATUS_CHARACTERS_MAX).collect(),
        ));
    }
    match value("WATCHDOG") {
        Some("1") => said.push(Said::Alive),
        Some("trigger") => said.push(Said::Broken),
        _ => {}
    }
    let name = value("FDNAME").filter(|name| is_name(name));
    if is_set("FDSTORE") && !files.is_empty() {
        said.push(Said::Store {
            name: name.unwrap_or("stored").to_owned(),
            files,
            polled: value("FDPOLL") != Some("0"),
        });
    }
    if let (true, Some(name)) = (is_set("FDSTOREREMOVE"), name) {
        said.push(Said::Forget(name.to_owned()));
    }
    said
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b':';
    !name.is_empty() && name.len() <= 255 && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(text: &str, files: usize) -> Vec<String> {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let said = read(text, (0..files).map(|_| file()).collect());
        said.iter()
            .map(|said| match said {
                Said::Store {
                    name,
                    files,
                    polled,
                } => format!("store {name} {} {polled}", files.len()),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_is_said_is_read_and_the_rest_left_out() {
        for (text, files, said) in [
            ("READY=1", 0, &["Ready"][..]),
            ("READY=1\nSTATUS=a=b\n", 0, &["Ready", "Status(\"a=b\")"]),
            ("READY=0\nREADY\nready=1\nX_A=1", 0, &[]),
            ("RELOADING=1\nMONOTONIC_USEC=7", 0, &["Reloading"]),
            ("STOPPING=1", 0, &["Stopping"]),
            ("WATCHDOG=1", 0, &["Alive"]),
            ("WATCHDOG=trigger", 0, &["Broken"]),
            ("FDSTORE=1\nFDNAME=web", 2, &["store web 2 true"]),
            ("FDSTORE=1\nFDPOLL=0", 1, &["store stored 1 false"]),
            ("FDSTORE=1\nFDNAME=a:b", 1, &["store stored 1 true"]),
            ("FDSTORE=1", 0, &[]),
            ("READY=1", 1, &["Ready"]),
            ("FDSTOREREMOVE=1\nFDNAME=web", 0, &["Forget(\"web\")"]),
            ("FDSTOREREMOVE=1", 0, &[]),
            ("BARRIER=1", 1, &[]),
            ("BARRIER=1\nREADY=1", 1, &[]),
            ("", 0, &[]),
        ] {
            assert_eq!(read_with(text, files), said, "{text:?}");
        }
        let long = format!("STATUS={}", "x".repeat(1000));
        let [said] = &read_with(&long, 0)[..] else {
            unreachable!("one status")
        };
        assert_eq!(said.matches('x').count(), STATUS_CHARACTERS_MAX);
    }
}
