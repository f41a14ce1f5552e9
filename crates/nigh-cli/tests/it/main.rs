//! Integration tests of nigh-cli, one binary.

mod command;
mod engine;
mod support;
