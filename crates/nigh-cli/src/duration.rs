//! Durations as written on the command line: `250ms`, `1.5s`, `2m`. Pure.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    #[error("expected a number and a unit (us, ms, s, m, h), as in 250ms")]
    Form,
    #[error("must be longer than nothing")]
    Zero,
    #[error("is more than a year")]
    TooLong,
}

const SECONDS_MAX: f64 = 366.0 * 24.0 * 3600.0;

/// Parses a duration longer than nothing and not longer than a year.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.len()
        - text
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
            .len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(DurationError::Form),
    };
    let number: f64 = number.parse().map_err(|_| DurationError::Form)?;
    let seconds = number * unit;
    if seconds > SECONDS_MAX {
        return Err(DurationError::TooLong);
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(DurationError::Zero),
    }
}

/// A duration for people: three digits and a unit.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (number, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let decimals = match number {
        n if n < 10.0 => 2,
        n if n < 100.0 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed() {
        for (text, expected) in [
            ("250ms", Ok(Duration::from_millis(250))),
            ("1.5s", Ok(Duration::from_millis(1500))),
            ("2m", Ok(Duration::from_secs(120))),
            ("1h", Ok(Duration::from_secs(3600))),
            ("7us", Ok(Duration::from_micros(7))),
            (".5s", Ok(Duration::from_millis(500))),
            ("", Err(DurationError::Form)),
            ("5", Err(DurationError::Form)),
            ("s", Err(DurationError::Form)),
            ("-1s", Err(DurationError::Form)),
            ("1 s", Err(DurationError::Form)),
            ("1.2.3s", Err(DurationError::Form)),
            ("infs", Err(DurationError::Form)),
            ("0s", Err(DurationError::Zero)),
            ("9000h", Err(DurationError::TooLong)),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn shown() {
        for (micros, expected) in [
            (7, "7.00 µs"),
            (123, "123 µs"),
            (1_234, "1.23 ms"),
            (45_600, "45.6 ms"),
            (2_000_000, "2.00 s"),
        ] {
            assert_eq!(show(Duration::from_micros(micros)), expected);
        }
    }
}
