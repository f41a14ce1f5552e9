//! Tests of the server against raw frames.
