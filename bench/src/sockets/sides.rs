//! What a load needs of a socket, and how each library's does it.

use std::io::{IoSlice, Read as _, Write as _};
use std::os::unix::net as std_net;

use nigh_socket::{self as nigh, blocking};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Failure;

/// What a load needs of a socket: the whole message, each way.
pub(super) trait Blocking: Send {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure>;
    fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure>;
}

macro_rules! blocking_stream {
    ($socket:ty) => {
        impl Blocking for $socket {
            fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
                Ok(self.write_all(bytes)?)
            }

            fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
                Ok(self.read_exact(buffer)?)
            }
        }
    };
}

blocking_stream!(std_net::UnixStream);
blocking_stream!(blocking::UnixStream);

impl Blocking for std_net::UnixDatagram {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.send(bytes)?;
        Ok(())
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        let (length, from) = self.recv_from(buffer)?;
        std::hint::black_box(from);
        whole(length, buffer.len())
    }
}

impl Blocking for blocking::UnixSeqpacket {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.send(&[IoSlice::new(bytes)], &[])?)
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        let length = self.recv(buffer)?.into_packet().map(|packet| packet.length);
        whole(length.unwrap_or(0), buffer.len())
    }
}

impl Blocking for blocking::UnixDatagram {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.send(&[IoSlice::new(bytes)], &[])?)
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        whole(self.recv(buffer)?.length, buffer.len())
    }
}

pub(super) fn whole(length: usize, expected: usize) -> Result<(), Failure> {
    if length == expected {
        return Ok(());
    }
    Err(format!("a message of {length} bytes, not {expected}").into())
}

/// As [`Blocking`], in a runtime.
pub(super) trait Async {
    async fn put(&mut self, bytes: &[u8]) -> Result<(), Failure>;
    async fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure>;
}

macro_rules! async_stream {
    ($socket:ty) => {
        impl Async for $socket {
            async fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
                Ok(self.write_all(bytes).await?)
            }

            async fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
                self.read_exact(buffer).await?;
                Ok(())
            }
        }
    };
}

async_stream!(tokio::net::UnixStream);
async_stream!(nigh::UnixStream);

impl Async for tokio::net::UnixDatagram {
    async fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.send(bytes).await?;
        Ok(())
    }

    async fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        let (length, from) = self.recv_from(buffer).await?;
        std::hint::black_box(from);
        whole(length, buffer.len())
    }
}

impl Async for nigh::UnixSeqpacket {
    async fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.send(&[IoSlice::new(bytes)], &[]).await?)
    }

    async fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        let received = self.recv(buffer).await?.into_packet();
        whole(received.map_or(0, |packet| packet.length), buffer.len())
    }
}

impl Async for nigh::UnixDatagram {
    async fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.send(&[IoSlice::new(bytes)], &[]).await?)
    }

    async fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        whole(self.recv(buffer).await?.length, buffer.len())
    }
}
