//! The memory of a lane and its two bells: made by the server, checked by the client before it maps anything.
//!
//! Traps: memory that could shrink kills who touches it (SIGBUS), so its length is sealed, and huge pages, which can run
//! out, are refused. Sealing against writing is impossible where both sides write. `O_NONBLOCK` of an event descriptor belongs
//! to both sides: a hostile peer can clear it, fill the counter and have us block while we ring. So bells are rung by adding
//! nothing: that wakes who waits for an edge, and does not block at any count that a write can reach.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::EventfdFlags;
use rustix::fs::{MemfdFlags, OFlags, SealFlags};
use rustix::io::Errno;

use super::cursor::Capacity;
use super::{LaneError, RING_BYTES_MAX, RING_BYTES_MIN};
use crate::publish::entry::FileKind;
use crate::sys::shared::{self, SharedPages};

/// What has to be sealed: the length.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);
/// What must not be: both sides write.
const NO_SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::FUTURE_WRITE);

/// Of linux/magic.h.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;

/// The size of each ring, if it is one.
pub(super) fn capacity(ring_bytes: u32) -> Result<Capacity, LaneError> {
    let is_in_range = (RING_BYTES_MIN..=RING_BYTES_MAX).contains(&ring_bytes);
    let capacity = Capacity::new(ring_bytes).filter(|_| is_in_range);
    capacity.ok_or(LaneError::RingBytes {
        bytes: ring_bytes,
        min: RING_BYTES_MIN,
        max: RING_BYTES_MAX,
    })
}

/// Memory of the right length, sealed and mapped.
pub(super) fn create(capacity: Capacity) -> Result<(OwnedFd, SharedPages), LaneError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let created = match rustix::fs::memfd_create("nigh-lane", flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3 does not know that nobody will execute it.
        Err(Errno::INVAL) => rustix::fs::memfd_create("nigh-lane", flags),
        created => created,
    };
    let file = created.map_err(LaneError::system("create the memory"))?;
    let length = shared::length(capacity);
    rustix::fs::ftruncate(&file, length as u64).map_err(LaneError::system("size the memory"))?;
    rustix::fs::fcntl_add_seals(&file, SEALS).map_err(LaneError::system("seal the memory"))?;
    let pages = map(&file, capacity)?;
    Ok((file, pages))
}

/// Checks memory that arrived, and maps it. Its length says how large the rings are.
pub(super) fn verify(
    file: &OwnedFd,
    ring_bytes_max: u32,
) -> Result<(Capacity, SharedPages), LaneError> {
    match rustix::fs::fcntl_get_seals(file) {
        Ok(seals) if seals.contains(SEALS) && !seals.intersects(NO_SEALS) => {}
        Ok(_) => return Err(LaneError::Seals),
        // EBADF: a path only.
        Err(Errno::INVAL | Errno::BADF) => return Err(LaneError::NotMemory),
        Err(error) => return Err(LaneError::system("ask for the seals")(error)),
    }
    if file_system(file.as_fd())? != TMPFS_MAGIC {
        return Err(LaneError::NotMemory);
    }
    let stat = rustix::fs::fstat(file).map_err(LaneError::system("ask for the length"))?;
    let found = u64::try_from(stat.st_size).unwrap_or(0);
    let capacity = shared::ring_bytes(found)
        .filter(|ring_bytes| *ring_bytes <= ring_bytes_max)
        .and_then(|ring_bytes| capacity(ring_bytes).ok())
        .ok_or(LaneError::Length {
            found,
            ring_bytes_max,
        })?;
    let pages = map(file, capacity)?;
    Ok((capacity, pages))
}

fn map(file: &OwnedFd, capacity: Capacity) -> Result<SharedPages, LaneError> {
    SharedPages::map(file, capacity).map_err(LaneError::system("map the memory"))
}

fn file_system(fd: BorrowedFd<'_>) -> Result<u64, LaneError> {
    let status = rustix::fs::fstatfs(fd).map_err(LaneError::system("ask for the file system"))?;
    Ok(u64::try_from(status.f_type).unwrap_or(0))
}

/// A bell: always readable, because it is rung by adding nothing.
pub(super) fn create_bell() -> Result<OwnedFd, LaneError> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    rustix::event::eventfd(1, flags).map_err(LaneError::system("create a bell"))
}

/// Checks a bell that arrived: an event descriptor, which no other kind of descriptor without a file takes eight bytes like.
pub(super) fn verify_bell(bell: &OwnedFd) -> Result<(), LaneError> {
    let stat = rustix::fs::fstat(bell).map_err(LaneError::system("ask what a bell is"))?;
    let is_anonymous = file_system(bell.as_fd())? == ANON_INODE_FS_MAGIC;
    if FileKind::of(&stat) != FileKind::Other || !is_anonymous {
        return Err(LaneError::NotEvent);
    }
    let flags = rustix::fs::fcntl_getfl(bell).map_err(LaneError::system("ask what a bell is"))?;
    if !flags.contains(OFlags::RDWR) {
        return Err(LaneError::NotEvent);
    }
    rustix::fs::fcntl_setfl(bell, flags | OFlags::NONBLOCK)
        .map_err(LaneError::system("prepare a bell"))?;
    match rustix::io::write(bell, &0_u64.to_ne_bytes()) {
        Ok(8) => Ok(()),
        _ => Err(LaneError::NotEvent),
    }
}

/// Wakes who waits for this bell.
pub(super) fn ring(bell: &OwnedFd) -> rustix::io::Result<()> {
    loop {
        match rustix::io::write(bell, &0_u64.to_ne_bytes()) {
            // EAGAIN: its owner has filled it, and is awake for all we know.
            Ok(_) | Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
