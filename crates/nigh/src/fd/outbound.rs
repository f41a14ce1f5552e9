//! What waits to be written, and the frame that is being written, with the descriptors that go with its first byte.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::attachment::Attachment;
use super::call::Call;
use super::closer;
use super::error::Loss;
use super::frame::{Fds, Frame};
use crate::frame::encode;

/// What waits to be written between two frames of HTTP/2.
#[derive(Debug)]
pub(super) enum Out {
    Bytes(Vec<u8>),
    Fd {
        id: u64,
        index: u32,
        attachment: Arc<Attachment>,
        call: Arc<Call>,
    },
}

/// A frame on its way, with the descriptors that its first byte carries.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    pub(crate) bytes: Vec<u8>,
    pub(super) carried: Vec<Carried>,
    pub(super) frame: Option<Fds>,
    /// Whether the frame is the nigh wire's, and not one between HTTP/2's.
    pub(super) is_nigh: bool,
}

#[derive(Debug)]
pub(super) struct Carried {
    pub(super) fd: OwnedFd,
    pub(super) index: u32,
    pub(super) attachment: Arc<Attachment>,
    pub(super) call: Arc<Call>,
}

impl Out {
    pub(super) fn is_of(&self, call: u64) -> bool {
        matches!(self, Self::Fd { id, .. } if *id == call)
    }
}

impl Outbound {
    /// What goes with the first byte.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.carried.iter().map(|one| one.fd.as_fd()).collect()
    }

    /// Writes down what `frame` says.
    pub(super) fn announce(&mut self, frame: Fds) {
        self.bytes = if self.is_nigh {
            // A call's number there is its stream.
            let stream = u32::try_from(frame.call).unwrap_or_default();
            encode::fds(stream, frame.count, frame.first, frame.loss).to_vec()
        } else {
            Frame::Fds(frame).encode()
        };
        self.frame = Some(frame);
    }

    /// The first byte was written, and with it the descriptors.
    pub(crate) fn left(&mut self) {
        let carried = std::mem::take(&mut self.carried);
        let mut fds = Vec::with_capacity(carried.len());
        for one in carried {
            one.call.has_left(one.index);
            one.attachment.left();
            fds.push(one.fd);
        }
        if !fds.is_empty() {
            closer::drop_off(fds);
        }
    }

    /// The kernel refused the descriptors: the frame goes without them and says so.
    pub(crate) fn refused(&mut self, loss: Loss) {
        if let Some(frame) = self.frame {
            self.announce(Fds {
                loss: loss.code(),
                ..frame
            });
        }
        let carried = std::mem::take(&mut self.carried);
        let mut fds = Vec::with_capacity(carried.len());
        for one in carried {
            one.attachment.failed(loss);
            one.call.lose(loss);
            fds.push(one.fd);
        }
        closer::drop_off(fds);
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        for one in self.carried.drain(..) {
            one.attachment.put_back(one.fd);
            // Nobody will take it up again, and somebody may wait for it.
            if one.call.is_over()
                && let Some(fd) = one.attachment.give_up()
            {
                closer::drop_off(fd);
            }
        }
    }
}

impl Outbound {
    /// Adds to the frame what else the same call attached next.
    pub(super) fn gather(&mut self, out: &mut VecDeque<Out>, id: u64, first: u32, most: usize) {
        let mut index = first;
        while self.carried.len() < most {
            index = index.wrapping_add(1);
            let next = out.pop_front_if(|out| {
                matches!(out, Out::Fd { id: its, index: at, .. } if *its == id && *at == index)
            });
            let Some(Out::Fd {
                attachment, call, ..
            }) = next
            else {
                return;
            };
            let Some(fd) = attachment.begin() else {
                return;
            };
            self.carried.push(Carried {
                fd,
                index,
                attachment,
                call,
            });
        }
    }
}

/// A descriptor that leaves in grpcfd's way, and the call that fails if it cannot.
#[derive(Debug)]
pub(super) struct Loose {
    pub(super) attachment: Arc<Attachment>,
    pub(super) call: Arc<Call>,
}

/// Descriptors in grpcfd's way: they leave with the next byte, whatever it is.
#[derive(Debug, Default)]
pub(super) struct LooseQueue {
    queue: Mutex<VecDeque<Loose>>,
    /// What the writer looks at before it takes the lock.
    waiting: AtomicBool,
}

impl LooseQueue {
    pub(super) fn push(&self, attachment: Arc<Attachment>, call: &Arc<Call>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(Loose {
            attachment,
            call: Arc::clone(call),
        });
        self.waiting.store(true, Ordering::Release);
    }

    /// The next of them, as many as grpcfd receives at once.
    pub(super) fn next(&self) -> Vec<(Loose, OwnedFd)> {
        /// The room of grpcfd's receive buffer.
        const AT_ONCE: usize = 64;
        let mut leaving = Vec::new();
        if !self.waiting.load(Ordering::Acquire) {
            return leaving;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while leaving.len() < AT_ONCE {
            let Some(loose) = queue.pop_front() else {
                self.waiting.store(false, Ordering::Release);
                break;
            };
            if let Some(fd) = loose.attachment.begin() {
                leaving.push((loose, fd));
            }
        }
        leaving
    }

    /// What waited is given up.
    pub(super) fn clear(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = std::mem::take(&mut *queue);
        drop(queue);
        drop(waited);
    }
}
