//! The system's, told to keep what is freed (`place::keeps_memory`).

/// As reports say it.
pub(crate) const NAME: &str = "glibc, trim threshold 64 MiB, mmap threshold 32 MiB";
