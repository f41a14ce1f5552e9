//! nigh-testkit
