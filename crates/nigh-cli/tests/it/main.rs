//! Integration tests of nigh-cli, one binary.

mod engine;
mod support;
