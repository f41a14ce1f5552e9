//! Private stand-in until branch `identity` lands; dropped when merging.
#[derive(Debug, thiserror::Error)]
#[error("no user or group {0}")]
pub struct UserError(String);

pub fn uid_of(name: &str) -> Result<u32, UserError> {
    name.parse().map_err(|_| UserError(name.to_owned()))
}
pub fn gid_of(name: &str) -> Result<u32, UserError> {
    name.parse().map_err(|_| UserError(name.to_owned()))
}
