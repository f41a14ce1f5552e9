//! Integration tests of nigh-testkit, one binary.

mod child;
mod fds;
mod scripted;
mod service;
mod tidy;
