//! sock_diag messages for Unix sockets: the request's bytes, and sockets out of a reply's bytes. Pure.
//!
//! Trap: the kernel encodes a device as `major << 20 | minor`, unlike `st_dev`, and cuts the file's inode to 32 bits.

/// Length of a netlink header and of the fixed part of a socket's message.
const HEADER: usize = 16;
const SOCKET: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_DUMP: u16 = 0x300;
const AF_UNIX: u8 = 1;

/// Name, file, peer, queues, buffers and uid.
const SHOW: u32 = 0b111_0111;
/// The file of a path socket.
const SHOW_VFS: u32 = 0b10;
/// The clients that wait at a listener.
const SHOW_ICONS: u32 = 0b1000;

const ATTRIBUTE_NAME: u16 = 0;
const ATTRIBUTE_VFS: u16 = 1;
const ATTRIBUTE_PEER: u16 = 2;
const ATTRIBUTE_ICONS: u16 = 3;
const ATTRIBUTE_RQLEN: u16 = 4;
const ATTRIBUTE_MEMINFO: u16 = 5;
const ATTRIBUTE_UID: u16 = 7;

/// Which of the words of `MEMINFO` is the send buffer's size (`SK_MEMINFO_SNDBUF`).
const MEMINFO_SEND_BUFFER: usize = 3;

/// A socket as the kernel describes it, not yet interpreted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Diag {
    pub(super) kind: u8,
    pub(super) state: u8,
    pub(super) inode: u32,
    /// As bound: a leading NUL for an abstract name, no trailing one for a path; empty when unnamed.
    pub(super) name: Vec<u8>,
    pub(super) file: Option<FileId>,
    pub(super) peer: Option<u32>,
    pub(super) pending: Vec<u32>,
    pub(super) receive_queue: u32,
    pub(super) send_queue: u32,
    /// How much of the peer's unread memory it may lend.
    pub(super) send_buffer: Option<u32>,
    pub(super) uid: Option<u32>,
}

/// The file that a path socket was bound to, as far as the kernel tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub(super) major: u32,
    pub(super) minor: u32,
    /// Lower 32 bits of the inode number.
    pub(super) inode: u32,
}

/// What one datagram from the kernel brought besides sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
    /// The kernel refused, with this error number.
    Refused(i32),
}

/// Bytes that are no sock_diag reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A length field says less than its own header or more than there is.
    #[error("a length of {length} with {left} bytes left")]
    Length {
        /// What the field says, in bytes.
        length: usize,
        /// What was left, in bytes.
        left: usize,
    },
    /// A field is shorter than its type.
    #[error("attribute {attribute} is too short")]
    Short {
        /// Number of the attribute in `linux/unix_diag.h`.
        attribute: u16,
    },
}

/// A request for every Unix socket of this network namespace, without those that wait at listeners:
/// one listener with a long queue would fill a datagram, and then the kernel ends the whole list there.
pub(super) fn request_all(sequence: u32) -> Vec<u8> {
    request(sequence, NLM_F_DUMP, [u32::MAX, 0, SHOW, 0, 0])
}

/// A request for the clients that wait at one listener.
pub(super) fn request_pending(sequence: u32, inode: u32) -> Vec<u8> {
    request(
        sequence,
        0,
        [u32::MAX, inode, SHOW_ICONS, u32::MAX, u32::MAX],
    )
}

/// A request for the file of one socket.
pub(super) fn request_file(sequence: u32, inode: u32) -> Vec<u8> {
    request(sequence, 0, [u32::MAX, inode, SHOW_VFS, u32::MAX, u32::MAX])
}

/// `words`: states, inode, what to show, cookie (all ones: any).
fn request(sequence: u32, flags: u16, words: [u32; 5]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 24);
    bytes.extend_from_slice(&40_u32.to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(&[AF_UNIX, 0, 0, 0]);
    for word in words {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// Reads one datagram; messages of other sequences are left out.
pub(super) fn parse(
    mut bytes: &[u8],
    sequence: u32,
    sockets: &mut Vec<Diag>,
) -> Result<Progress, Malformed> {
    while bytes.len() >= HEADER {
        let (message, rest) = cut(bytes, u32_at(bytes, 0), HEADER)?;
        bytes = rest;
        if u32_at(message, 8) != Some(sequence) {
            continue;
        }
        let body = &message[HEADER..];
        match u16_at(message, 4) {
            Some(NLMSG_DONE) => return Ok(Progress::Done),
            Some(NLMSG_ERROR) => {
                let errno = u32_at(body, 0).ok_or(Malformed::Short { attribute: 0 })?;
                return Ok(Progress::Refused(errno.cast_signed().wrapping_neg()));
            }
            Some(SOCK_DIAG_BY_FAMILY) => sockets.push(socket(body)?),
            _ => {}
        }
    }
    Ok(Progress::More)
}

fn socket(body: &[u8]) -> Result<Diag, Malformed> {
    let (Some(&kind), Some(&state), Some(inode), true) = (
        body.get(1),
        body.get(2),
        u32_at(body, 4),
        body.len() >= SOCKET,
    ) else {
        return Err(Malformed::Length {
            length: SOCKET,
            left: body.len(),
        });
    };
    let mut found = Diag {
        kind,
        state,
        inode,
        ..Diag::default()
    };
    let mut bytes = &body[SOCKET..];
    while bytes.len() >= 4 {
        let number = u16_at(bytes, 2).unwrap_or_default();
        let (attribute, rest) = cut(bytes, u16_at(bytes, 0).map(u32::from), 4)?;
        bytes = rest;
        found.take(number, &attribute[4..])?;
    }
    Ok(found)
}

impl Diag {
    /// Whether clients wait to be accepted: state 10 is `TCP_LISTEN`, whose queue is those clients.
    pub(super) fn has_queue(&self) -> bool {
        self.state == 10 && self.receive_queue > 0
    }

    fn take(&mut self, attribute: u16, value: &[u8]) -> Result<(), Malformed> {
        let word = |index: usize| u32_at(value, index * 4).ok_or(Malformed::Short { attribute });
        match attribute {
            ATTRIBUTE_NAME => {
                let is_path = value.first().is_some_and(|byte| *byte != 0);
                let name = value.strip_suffix(&[0]).filter(|_| is_path);
                self.name = name.unwrap_or(value).to_vec();
            }
            ATTRIBUTE_VFS => {
                let device = word(1)?;
                self.file = Some(FileId {
                    inode: word(0)?,
                    major: device >> 20,
                    minor: device & 0xf_ffff,
                });
            }
            ATTRIBUTE_PEER => self.peer = Some(word(0)?),
            ATTRIBUTE_ICONS => {
                self.pending = (0..value.len() / 4).map(word).collect::<Result<_, _>>()?;
            }
            ATTRIBUTE_RQLEN => {
                self.receive_queue = word(0)?;
                self.send_queue = word(1)?;
            }
            ATTRIBUTE_MEMINFO => self.send_buffer = Some(word(MEMINFO_SEND_BUFFER)?),
            ATTRIBUTE_UID => self.uid = Some(word(0)?),
            _ => {}
        }
        Ok(())
    }
}

/// Splits off the first `length` bytes; what follows begins at the next multiple of four.
fn cut(bytes: &[u8], length: Option<u32>, least: usize) -> Result<(&[u8], &[u8]), Malformed> {
    let left = bytes.len();
    let length = length
        .and_then(|length| usize::try_from(length).ok())
        .unwrap_or_default();
    if length < least || length > left {
        return Err(Malformed::Length { length, left });
    }
    let next = length.next_multiple_of(4).min(left);
    Ok((&bytes[..length], &bytes[next..]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?.first_chunk()?;
    Some(u32::from_ne_bytes(*word))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at + 2)?.first_chunk()?;
    Some(u16::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    const SEQUENCE: u32 = 7;

    fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), number.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + HEADER).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&words(&[SEQUENCE, 0]));
        bytes.extend_from_slice(body);
        bytes
    }

    fn listener() -> Vec<u8> {
        let mut body = vec![AF_UNIX, 1, 10, 0];
        body.extend_from_slice(&words(&[4711, 0, 0]));
        body.extend_from_slice(&attribute(ATTRIBUTE_NAME, b"/run/x\0"));
        body.extend_from_slice(&attribute(ATTRIBUTE_VFS, &words(&[12, 266_338_304])));
        body.extend_from_slice(&attribute(ATTRIBUTE_ICONS, &words(&[8, 9])));
        body.extend_from_slice(&attribute(ATTRIBUTE_RQLEN, &words(&[2, 4096])));
        let memory = words(&[0, 212_992, 0, 212_992, 0, 0, 0, 0, 0]);
        body.extend_from_slice(&attribute(ATTRIBUTE_MEMINFO, &memory));
        body.extend_from_slice(&attribute(ATTRIBUTE_UID, &words(&[1000])));
        body.extend_from_slice(&attribute(99, b"later kernels"));
        message(SOCK_DIAG_BY_FAMILY, &body)
    }

    #[test]
    fn a_listener_is_read() {
        let mut found = Vec::new();
        let bytes = [listener(), message(NLMSG_DONE, &words(&[0]))].concat();
        assert_eq!(parse(&bytes, SEQUENCE, &mut found), Ok(Progress::Done));
        let file = FileId {
            major: 254,
            minor: 0,
            inode: 12,
        };
        let expected = Diag {
            kind: 1,
            state: 10,
            inode: 4711,
            name: b"/run/x".to_vec(),
            file: Some(file),
            peer: None,
            pending: vec![8, 9],
            receive_queue: 2,
            send_queue: 4096,
            send_buffer: Some(212_992),
            uid: Some(1000),
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn an_abstract_name_keeps_every_byte() {
        let mut body = vec![AF_UNIX, 5, 10, 0];
        body.extend_from_slice(&words(&[1, 0, 0]));
        body.extend_from_slice(&attribute(ATTRIBUTE_NAME, b"\0a\0"));
        let mut found = Vec::new();
        parse(&message(SOCK_DIAG_BY_FAMILY, &body), SEQUENCE, &mut found).unwrap();
        assert_eq!(found[0].name, b"\0a\0");
    }

    #[test]
    fn refusal_and_foreign_messages_are_told_apart() {
        let mut found = Vec::new();
        let refused = message(NLMSG_ERROR, &words(&[2_u32.wrapping_neg()]));
        assert_eq!(
            parse(&refused, SEQUENCE, &mut found),
            Ok(Progress::Refused(2))
        );
        assert_eq!(
            parse(&listener(), SEQUENCE + 1, &mut found),
            Ok(Progress::More)
        );
        assert_eq!(found, []);
    }

    #[test]
    fn impossible_lengths_are_errors() {
        let mut bytes = listener();
        bytes[0] = 3;
        let length = Malformed::Length {
            length: 3,
            left: bytes.len(),
        };
        assert_eq!(parse(&bytes, SEQUENCE, &mut Vec::new()), Err(length));
        bytes[0] = 255;
        assert!(parse(&bytes, SEQUENCE, &mut Vec::new()).is_err());
        let mut body = vec![AF_UNIX, 1, 10, 0];
        body.extend_from_slice(&words(&[1, 0, 0]));
        body.extend_from_slice(&attribute(ATTRIBUTE_VFS, &words(&[1])));
        let short = Malformed::Short {
            attribute: ATTRIBUTE_VFS,
        };
        let bytes = message(SOCK_DIAG_BY_FAMILY, &body);
        assert_eq!(parse(&bytes, SEQUENCE, &mut Vec::new()), Err(short));
    }

    #[test]
    fn the_request_has_the_length_it_states() {
        let bytes = request_all(SEQUENCE);
        assert_eq!(u32_at(&bytes, 0), Some(u32::try_from(bytes.len()).unwrap()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse(&bytes, SEQUENCE, &mut Vec::new());
        }

        #[test]
        fn no_change_of_a_reply_makes_it_panic(at in 0..100_usize, byte in any::<u8>()) {
            let mut bytes = listener();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = parse(&bytes, SEQUENCE, &mut Vec::new());
        }
    }
}
