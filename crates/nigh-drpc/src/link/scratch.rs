//! The buffer that packets are received into: one per thread, not one per connection.
//!
//! Trap: the largest packet has 128 KiB. With a buffer of its own each, 1,000 idle connections would hold 128 MiB.

use std::cell::RefCell;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's buffer of at least `length` bytes. What it held before is still in it.
///
/// A nested call gets a buffer of its own.
pub(crate) fn with_scratch<T>(length: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut buffer) => {
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            work(&mut buffer)
        }
        Err(_) => work(&mut vec![0; length]),
    })
}
