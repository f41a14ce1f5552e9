//! Integration tests of nigh-flagd: the published testbed, the protocols, files that change.

mod common;
mod events;
mod files;
mod gherkin;
mod protocols;
mod testbed;
