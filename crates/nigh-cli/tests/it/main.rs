//! Integration tests of nigh-cli, one binary.

mod command;
mod demo;
mod drpc;
mod engine;
mod flagd;
mod ls;
mod program;
mod restarts;
mod serve;
mod support;
mod tap;
mod who;
