//! Integration tests of nigh-cli, one binary.

mod command;
mod demo;
mod descriptors;
mod drpc;
mod engine;
mod flagd;
mod ls;
mod program;
mod serve;
mod support;
mod tap;
mod who;
