//! Compiles flagd's evaluation protocol without `protoc`: messages and a client.

use std::error::Error;

/// One copy of the definitions: the daemon's.
const FOLDER: &str = "../nigh-flagd/proto";

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(["flagd/evaluation/v2/evaluation.proto"], [FOLDER])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .build_server(false)
        .btree_map(".")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed={FOLDER}");
    Ok(())
}
