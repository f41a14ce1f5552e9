//! mimalloc, for whoever uses it in their own programs.

/// As reports say it.
pub(crate) const NAME: &str = "mimalloc";

#[global_allocator]
static ALLOCATOR: ::mimalloc::MiMalloc = ::mimalloc::MiMalloc;
