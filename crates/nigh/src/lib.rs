//! nigh

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the server that uses it comes next")
)]
mod http2;
