//! Integration tests of nigh-cli, one binary.

mod activation;
mod bench;
mod command;
mod demo;
mod descriptors;
mod drpc;
mod engine;
mod flagd;
mod handover;
mod inspect;
mod ls;
mod message;
mod program;
mod published;
mod restarts;
mod run;
mod serve;
mod support;
mod tap;
mod who;
