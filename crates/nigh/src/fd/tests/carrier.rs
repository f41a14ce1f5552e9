//! A socket that behaves as the kernel's: descriptors go with the first byte of a send, and a receive stops after them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::fd::socket::{Carrier, FdSend, Reception, Unsent};

/// One send as the other end will see it.
#[derive(Debug)]
pub(super) enum Step {
    Bytes(Vec<u8>, Vec<OwnedFd>),
    /// Of the next descriptors that come, some are missing.
    TruncateNext,
}

#[derive(Debug, Default)]
struct State {
    /// Most bytes that one write takes.
    chop: usize,
    written: Vec<Step>,
    coming: VecDeque<Step>,
    truncates: bool,
    refusal: Option<nigh_socket::SendError>,
    reader: Option<Waker>,
}

/// Clones are the same socket.
#[derive(Debug, Clone)]
pub(super) struct Scripted(Arc<Mutex<State>>);

impl Scripted {
    pub(super) fn new(chop: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            chop,
            ..State::default()
        })))
    }

    pub(super) fn written(&self) -> Vec<Step> {
        std::mem::take(&mut self.0.lock().unwrap().written)
    }

    pub(super) fn feed(&self, steps: Vec<Step>) {
        let mut state = self.0.lock().unwrap();
        state.coming.extend(steps);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    pub(super) fn refuse(&self, refusal: nigh_socket::SendError) {
        self.0.lock().unwrap().refusal = Some(refusal);
    }
}

impl State {
    /// As recvmsg: earlier bytes are put in front, and nothing is read past descriptors.
    fn receive(&mut self, room: usize) -> Option<(Vec<u8>, Vec<OwnedFd>, bool)> {
        let (mut bytes, mut fds) = (Vec::new(), Vec::new());
        while bytes.len() < room && fds.is_empty() {
            match self.coming.pop_front() {
                None => break,
                Some(Step::TruncateNext) => self.truncates = true,
                Some(Step::Bytes(mut head, came)) => {
                    let rest = head.split_off(head.len().min(room - bytes.len()));
                    bytes.extend(head);
                    fds = came;
                    if !rest.is_empty() {
                        self.coming.push_front(Step::Bytes(rest, Vec::new()));
                    }
                }
            }
        }
        let truncated = !fds.is_empty() && std::mem::take(&mut self.truncates);
        (!bytes.is_empty()).then_some((bytes, fds, truncated))
    }
}

impl Carrier for Scripted {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<Reception>> {
        let mut state = self.0.lock().unwrap();
        let Some((bytes, fds, truncated)) = state.receive(buf.len()) else {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        buf[..bytes.len()].copy_from_slice(&bytes);
        Poll::Ready(Ok(Reception {
            length: bytes.len(),
            fds,
            truncated,
        }))
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap();
        let Some((bytes, ..)) = state.receive(buf.remaining()) else {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl FdSend for Scripted {
    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Poll<Result<usize, Unsent>> {
        let bytes = bytes.first().unwrap();
        let mut state = self.0.lock().unwrap();
        if let Some(refusal) = state.refusal.take() {
            return Poll::Ready(Err(refusal.into()));
        }
        let length = bytes.len().min(state.chop);
        let fds = fds.iter().map(|fd| fd.try_clone_to_owned().unwrap());
        let step = Step::Bytes(bytes[..length].to_vec(), fds.collect());
        state.written.push(step);
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap();
        let length = buf.len().min(state.chop);
        state
            .written
            .push(Step::Bytes(buf[..length].to_vec(), Vec::new()));
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
