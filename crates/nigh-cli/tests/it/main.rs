//! Integration tests of nigh-cli, one binary.

mod command;
mod engine;
mod ls;
mod program;
mod support;
