//! Keeps a connection's frames where a tap sees them: takes the offer of shared memory out of a nigh greeting.
//!
//! The server then sees a client that offers none, and both stay on the socket (docs/wire/nigh.md, 14.1).

use super::decode::Side;
use crate::pipe::Pipe;

/// Clause 2.2.
const MAGIC: &[u8; 8] = b"\0nigh\r\n\x1a";
/// Clause 2.3: the lowest byte of the features.
const FEATURES_AT: usize = 12;
/// Clause 14.1.
const SHARED_MEMORY: u8 = 2;

/// The first bytes of a client, as far as they can be a greeting's.
#[derive(Debug)]
pub(super) struct Unshare {
    at: usize,
}

impl Unshare {
    /// For the client's side of a byte stream; `None`: no greeting comes from there that offers anything.
    pub(super) fn of(side: Side, from: &Pipe) -> Option<Self> {
        let is_stream = matches!(from, Pipe::Unix(_));
        (side == Side::Client && is_stream).then_some(Self { at: 0 })
    }

    /// Looks at the next bytes; whether an offer was taken out.
    fn pass_one(&mut self, byte: &mut u8) -> bool {
        let at = self.at;
        self.at += 1;
        match MAGIC.get(at) {
            Some(same) if same == byte => false,
            Some(_) => {
                // Another wire.
                self.at = usize::MAX;
                false
            }
            None => {
                let offers = at == FEATURES_AT && *byte & SHARED_MEMORY != 0;
                if offers {
                    *byte &= !SHARED_MEMORY;
                }
                offers
            }
        }
    }

    /// Looks at the next bytes of the stream; whether an offer was taken out.
    pub(super) fn pass(&mut self, bytes: &mut [u8]) -> bool {
        let mut is_taken = false;
        for byte in bytes {
            if self.at > FEATURES_AT {
                break;
            }
            is_taken |= self.pass_one(byte);
        }
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of these bytes, however they are cut, and whether an offer was in them.
    fn passed(bytes: &[u8]) -> (Vec<u8>, bool) {
        let whole = {
            let mut bytes = bytes.to_vec();
            let taken = Unshare { at: 0 }.pass(&mut bytes);
            (bytes, taken)
        };
        let (mut unshare, mut single) = (Unshare { at: 0 }, bytes.to_vec());
        let mut taken = false;
        for byte in single.chunks_mut(1) {
            taken |= unshare.pass(byte);
        }
        assert_eq!((single, taken), whole);
        whole
    }

    #[test]
    fn only_the_offer_of_shared_memory_is_taken_out() {
        let greeting = |features: u8| {
            let mut bytes = MAGIC.to_vec();
            bytes.extend([1, 0, 44, 0, features, 0, 0, 0, 2, 2, 2, 2]);
            bytes
        };
        assert_eq!(passed(&greeting(3)), (greeting(1), true));
        assert_eq!(passed(&greeting(2)), (greeting(0), true));
        assert_eq!(passed(&greeting(1)), (greeting(1), false));
        let http = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        assert_eq!(passed(&http), (http, false));
    }
}
