//! Compiles flagd's protocols without `protoc`: messages and clients; the servers are written by hand.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let definitions = [
        "proto/flagd/evaluation/v1/evaluation.proto",
        "proto/flagd/evaluation/v2/evaluation.proto",
        "proto/flagd/sync/v1/sync.proto",
    ];
    tonic_prost_build::configure()
        .build_transport(false)
        .build_server(false)
        .btree_map(".")
        .compile_fds(protox::compile(definitions, ["proto"])?)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
