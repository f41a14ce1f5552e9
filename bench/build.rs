//! The test service once more, with nigh's codec: what a user gets by one line of a `build.rs`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let protos = "../crates/nigh-testkit/proto";
    println!("cargo::rerun-if-changed={protos}");
    let descriptors = protox::compile(["nigh/test/v1/test.proto"], [protos])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("nigh::ProstCodec")
        .extern_path(".nigh.test.v1", "::nigh_testkit::service::proto")
        .compile_fds(descriptors)?;
    Ok(())
}
