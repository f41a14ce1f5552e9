//! nigh
