//! Deterministic CBOR (RFC 8949 4.2) of a JSON value: what `fractional` v3 hashes.
//!
//! A number has one form: an integral float inside the integer range is the integer, -0.0 is 0, any other
//! float takes the shortest of half, single and double that keeps its value.

use datalogic_rs::DataValue;
use datalogic_rs::datavalue::NumberValue;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Appends the encoding of `value`.
pub(super) fn encode(value: &DataValue<'_>, out: &mut Vec<u8>) {
    match value {
        DataValue::Null => out.push(0xf6),
        DataValue::Bool(false) => out.push(0xf4),
        DataValue::Bool(true) => out.push(0xf5),
        DataValue::Number(NumberValue::Integer(number)) => integer(i128::from(*number), out),
        DataValue::Number(NumberValue::Float(number)) => float(*number, out),
        DataValue::String(text) => string(text, out),
        DataValue::Array(items) => {
            head(ARRAY, items.len() as u64, out);
            for item in *items {
                encode(item, out);
            }
        }
        DataValue::Object(members) => map(members, out),
    }
}

/// Appends the array of two strings that the short form of `fractional` hashes.
pub(super) fn encode_pair(first: &str, second: &str, out: &mut Vec<u8>) {
    head(ARRAY, 2, out);
    string(first, out);
    string(second, out);
}

fn map(members: &[(&str, DataValue<'_>)], out: &mut Vec<u8>) {
    let mut sorted: Vec<&(&str, DataValue<'_>)> = members.iter().collect();
    // Shorter keys first, then by bytes: the order of their encodings. The sort is stable, so that of
    // equal keys the last one can win, as it does in JSON.
    sorted.sort_by(|(a, _), (b, _)| (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes())));
    sorted.reverse();
    sorted.dedup_by(|(a, _), (b, _)| a == b);
    sorted.reverse();
    head(MAP, sorted.len() as u64, out);
    for (key, value) in sorted {
        string(key, out);
        encode(value, out);
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    head(TEXT, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn integer(number: i128, out: &mut Vec<u8>) {
    if number >= 0 {
        head(UNSIGNED, u64::try_from(number).unwrap_or(u64::MAX), out);
    } else {
        head(
            NEGATIVE,
            u64::try_from(-1 - number).unwrap_or(u64::MAX),
            out,
        );
    }
}

fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    if let Ok(byte) = u8::try_from(argument) {
        if byte >= 24 {
            out.push(major | 24);
            out.push(byte);
        } else {
            out.push(major | byte);
        }
    } else if let Ok(short) = u16::try_from(argument) {
        out.push(major | 25);
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(word) = u32::try_from(argument) {
        out.push(major | 26);
        out.extend_from_slice(&word.to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend_from_slice(&argument.to_be_bytes());
    }
}

/// -2^63 and 2^64, both exact.
const INTEGER_MIN: f64 = -9_223_372_036_854_775_808.0;
const INTEGER_END: f64 = 18_446_744_073_709_551_616.0;

fn float(number: f64, out: &mut Vec<u8>) {
    if number.fract() == 0.0 && (INTEGER_MIN..INTEGER_END).contains(&number) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "integral, and inside the range of 65 bits by the line above"
        )]
        integer(number as i128, out);
        return;
    }
    if let Some(half) = half(number) {
        out.push(0xf9);
        out.extend_from_slice(&half.to_be_bytes());
        return;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whether the value survived is what is asked"
    )]
    let single = number as f32;
    if f64::from(single).to_bits() == number.to_bits() {
        out.push(0xfa);
        out.extend_from_slice(&single.to_be_bytes());
    } else {
        out.push(0xfb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// The bits of the half-precision float of exactly this value.
fn half(number: f64) -> Option<u16> {
    let bits = number.to_bits();
    let sign = u16::from(bits >> 63 == 1) << 15;
    if number.is_nan() {
        return Some(0x7e00);
    }
    if number.is_infinite() {
        return Some(sign | 0x7c00);
    }
    let exponent = i32::try_from((bits >> 52) & 0x7ff).ok()? - 1023;
    let fraction = bits & ((1 << 52) - 1);
    if (-14..=15).contains(&exponent) {
        let lost = fraction & ((1 << 42) - 1);
        let biased = u16::try_from(exponent + 15).ok()?;
        return (lost == 0)
            .then(|| u16::try_from(fraction >> 42).ok())
            .flatten()
            .map(|kept| sign | biased << 10 | kept);
    }
    if (-24..-14).contains(&exponent) {
        // Subnormal: the leading one becomes explicit and moves right.
        let shift = 42 + u32::try_from(-14 - exponent).ok()?;
        let explicit = fraction | 1 << 52;
        let kept = u16::try_from(explicit >> shift).ok()?;
        return (explicit & ((1 << shift) - 1) == 0).then_some(sign | kept);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use datalogic_rs::bumpalo::Bump;

    fn hex(json: &str) -> String {
        let arena = Bump::new();
        let value = DataValue::from_str(json, &arena).unwrap();
        let mut out = Vec::new();
        encode(&value, &mut out);
        out.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn vectors_of_rfc_8949_appendix_a() {
        for (json, expected) in [
            ("0", "00"),
            ("23", "17"),
            ("24", "1818"),
            ("1000", "1903e8"),
            ("1000000", "1a000f4240"),
            ("1000000000000", "1b000000e8d4a51000"),
            ("-1", "20"),
            ("-1000", "3903e7"),
            ("1.5", "f93e00"),
            ("1.1", "fb3ff199999999999a"),
            ("65504.0", "19ffe0"),
            ("3.4028234663852886e+38", "fa7f7fffff"),
            ("1.0e+300", "fb7e37e43c8800759c"),
            ("5.960464477539063e-8", "f90001"),
            ("0.00006103515625", "f90400"),
            ("-4.1", "fbc010666666666666"),
            ("false", "f4"),
            ("null", "f6"),
            ("\"IETF\"", "6449455446"),
            ("[1, [2, 3]]", "8201820203"),
            ("{\"b\": 2, \"a\": 1, \"\": 0}", "a3600061610161 6202"),
        ] {
            assert_eq!(hex(json), expected.replace(' ', ""), "{json}");
        }
    }

    #[test]
    fn a_number_has_one_form() {
        assert_eq!(hex("-0.0"), "00");
        assert_eq!(hex("1.0"), "01");
        assert_eq!(hex("-9223372036854775808.0"), "3b7fffffffffffffff");
        assert_eq!(hex("18446744073709549568.0"), "1bfffffffffffff800");
        assert_eq!(hex("18446744073709551616.0"), "fa5f800000");
    }

    #[test]
    fn of_equal_keys_the_last_wins() {
        assert_eq!(hex("{\"a\": 1, \"a\": 2}"), "a1616102");
    }
}
