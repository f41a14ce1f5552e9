//! What comes, with the place of its descriptors, so that it can be passed on as it came.
//!
//! Trap: the kernel glues a stream's bytes in front of those that have descriptors, whose place a receiver may depend on.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use nigh_socket::UnixStream;

use crate::pipe::{Piece, Pipe, PipeError};

/// Bytes that the kernel keeps together, and a little: descriptors are no further from the end of what one look shows.
const SEGMENT_BYTES_MAX: usize = 40 << 10;

/// The next piece, and the byte in it that its descriptors came with; none at the end.
pub(super) async fn recv(
    pipe: &Pipe,
    buffer: &mut [u8],
) -> Result<Option<(Piece, usize)>, PipeError> {
    match pipe {
        Pipe::Unix(stream) => recv_stream(stream, buffer).await,
        other => Ok(other.recv(buffer).await?.map(|piece| (piece, 0))),
    }
}

/// Where descriptors wait behind some bytes, those are read one by one: nothing else tells which byte they came with.
async fn recv_stream(
    stream: &UnixStream,
    buffer: &mut [u8],
) -> Result<Option<(Piece, usize)>, PipeError> {
    let Some((first, rest)) = buffer.split_at_mut_checked(1) else {
        return Ok(None);
    };
    let begun = stream.recv_with_fds(first).await?;
    if begun.length == 0 {
        return Ok(None);
    }
    let mut piece = Piece {
        fds: begun.fds,
        fds_lost: begun.fds_lost,
        ..Piece::bare(begun.length)
    };
    let mut place = 0;
    let (there, has_fds) = peek(stream.as_fd(), rest)?;
    let mut bare = there;
    if has_fds {
        bare = there.saturating_sub(SEGMENT_BYTES_MAX);
        if bare == 0 && piece.fds.is_empty() && !piece.fds_lost {
            place = find(stream, &mut rest[..there], &mut piece)?;
            bare = there + 1 - piece.length;
        }
    }
    if bare > 0 {
        let at = piece.length;
        let chunk = stream.try_recv_with_fds(&mut buffer[at..at + bare])?;
        piece.length += chunk.length;
    }
    Ok(Some((piece, place)))
}

/// Reads up to the first byte with descriptors, and says which it is.
fn find(stream: &UnixStream, rest: &mut [u8], piece: &mut Piece) -> Result<usize, PipeError> {
    for byte in rest.chunks_mut(1) {
        let chunk = stream.try_recv_with_fds(byte)?;
        let place = piece.length;
        piece.length += chunk.length;
        if chunk.length == 0 || chunk.fds_lost || !chunk.fds.is_empty() {
            piece.fds = chunk.fds;
            piece.fds_lost = chunk.fds_lost;
            return Ok(place);
        }
    }
    Ok(0)
}

/// How many bytes are there, and whether there are descriptors with them: without room for control messages the kernel
/// installs none, and says that they do not fit. It looks for descriptors beyond the buffer, too.
fn peek(stream: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, recvmsg};
    let mut none = RecvAncillaryBuffer::default();
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut slices = [io::IoSliceMut::new(buffer)];
    loop {
        match recvmsg(stream, &mut slices, &mut none, flags) {
            Ok(seen) => return Ok((seen.bytes, seen.flags.contains(ReturnFlags::CTRUNC))),
            Err(rustix::io::Errno::AGAIN) => return Ok((0, false)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    #[tokio::test]
    async fn descriptors_stay_with_their_byte() {
        let (from, to) = UnixStream::pair().unwrap();
        let to = Pipe::Unix(to);
        let (_, passed) = UnixStream::pair().unwrap();
        let long = vec![7; 5000];
        for (bytes, has_fd) in [
            (&b"aaa"[..], false),
            (b"bbb", true),
            (&long, false),
            (b"c", true),
            (b"d", true),
        ] {
            let fds: &[BorrowedFd<'_>] = if has_fd { &[passed.as_fd()] } else { &[] };
            let sent = from
                .send_with_fds(&[IoSlice::new(bytes)], fds)
                .await
                .unwrap();
            assert_eq!(sent, bytes.len());
        }
        drop(from);
        let mut buffer = to.buffer();
        let mut seen = Vec::new();
        while let Some((piece, place)) = recv(&to, &mut buffer).await.unwrap() {
            let has_fds = !piece.fds.is_empty();
            seen.push((piece.length, has_fds.then_some(place)));
        }
        // Found behind other bytes, or first; what follows is one piece up to the next that has some.
        assert_eq!(seen[0], (6, Some(3)));
        let at: Vec<usize> = seen
            .iter()
            .scan(0, |begin, (length, at)| {
                let at = at.map(|at| *begin + at);
                *begin += length;
                Some(at)
            })
            .flatten()
            .collect();
        assert_eq!(at, [3, 5006, 5007]);
        assert_eq!(seen.iter().map(|(length, _)| length).sum::<usize>(), 5008);
    }
}
