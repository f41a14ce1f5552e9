//! Integration tests of nigh-socket, one binary.
