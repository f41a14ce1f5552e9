//! Prints where the vendored `protoc` and its files are, as shell assignments: the provider's build needs both.

fn main() -> Result<(), protoc_bin_vendored::Error> {
    println!("PROTOC={}", protoc_bin_vendored::protoc_bin_path()?.display());
    println!("PROTOC_INCLUDE={}", protoc_bin_vendored::include_path()?.display());
    Ok(())
}
