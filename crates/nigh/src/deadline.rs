//! A call's deadline as gRPC writes it: `grpc-timeout`, up to eight digits and a unit.
//!
//! Source: "PROTOCOL-HTTP2" of gRPC, `TimeoutValue` and `TimeoutUnit`.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

/// A `grpc-timeout` that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed grpc-timeout: expected 1 to 8 digits and one of H M S m u n")]
pub(crate) struct BadTimeout;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The time this call may take, if its caller set one.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    headers
        .get(GRPC_TIMEOUT)
        .map(|value| parse(value.as_bytes()))
        .transpose()
}

/// Longer than anybody waits, and short enough for every clock: 30 years.
pub(crate) const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The moment after `time` from now; what no clock can hold is far away.
pub(crate) fn after(time: Duration) -> Instant {
    Instant::now() + time.min(FAR)
}

fn parse(value: &[u8]) -> Result<Duration, BadTimeout> {
    let (unit, digits) = value.split_last().ok_or(BadTimeout)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadTimeout);
    }
    let number = digits
        .iter()
        .fold(0, |n: u64, digit| n * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(BadTimeout),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_too_long() {
        assert!(after(Duration::MAX) >= after(Duration::from_secs(1)));
    }

    #[test]
    fn every_unit_and_no_other() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(expected), "{text}");
        }
        for text in ["", "S", "5", "123456789S", "1.5S", "-1S", "1s", " 1S"] {
            assert_eq!(parse(text.as_bytes()), Err(BadTimeout), "{text}");
        }
    }
}
