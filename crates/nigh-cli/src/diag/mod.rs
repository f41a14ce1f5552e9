//! `nigh.diag.v1.Diag`: the service of `nigh serve`, on which every kind of call can be tried.

pub(crate) mod caller;
mod counters;
mod descriptors;
mod service;

pub use counters::{Counters, ServerCounts};
pub use descriptors::{OpenRoot, OpenRootError};
pub use service::Diag;

/// Messages and stubs of `nigh.diag.v1`, generated from `proto/nigh/diag/v1/diag.proto`.
pub mod pb {
    #![expect(
        clippy::allow_attributes,
        clippy::too_many_lines,
        unused_qualifications,
        reason = "generated code"
    )]
    tonic::include_proto!("nigh.diag.v1");
}

/// Descriptors of `nigh.diag.v1` and what it imports, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/nigh_diag_descriptors.bin"));
