//! Integration tests of nigh-flagd: the published testbed, the protocols, files that change.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test's helper a broken precondition is a failed test"
)]

mod callers;
mod command;
mod common;
mod events;
mod files;
mod gherkin;
mod pod;
mod protocols;
mod provider;
mod provider_options;
mod remote;
mod replace;
mod scenarios;
mod testbed;
mod wire;
