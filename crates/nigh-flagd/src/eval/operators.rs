//! The four operators that flagd adds to JSONLogic. What they cannot make sense of is null, never an error:
//! the flag then has its default variant.

use datalogic_rs::bumpalo::Bump;
use datalogic_rs::datavalue::NumberValue;
use datalogic_rs::operator::EvalContext;
use datalogic_rs::{ArenaExt as _, CustomOperator, DataValue, Result};

use super::cbor;
use super::murmur::murmur3_32;
use super::semver::Version;

/// Which of its two generations `fractional` follows: they put the same user into different buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fractional {
    /// Hashes a string, or flag key and targeting key joined: flagd's releases so far.
    #[default]
    V2,
    /// Hashes the deterministic CBOR of any value.
    V3,
}

/// `fractional`: one of several variants, by weight, the same one for the same value each time.
pub(super) struct FractionalOperator(pub(super) Fractional);

impl CustomOperator for FractionalOperator {
    fn evaluate<'a>(
        &self,
        args: &[&'a DataValue<'a>],
        context: &mut EvalContext<'_, 'a>,
        arena: &'a Bump,
    ) -> Result<&'a DataValue<'a>> {
        let hashed = match self.0 {
            Fractional::V2 => hash_v2(args, context.root_input()),
            Fractional::V3 => hash_v3(args, context.root_input()),
        };
        Ok(hashed
            .and_then(|(hash, buckets)| pick(hash, buckets))
            .unwrap_or_else(|| arena.null()))
    }
}

type Arguments<'s, 'a> = &'s [&'a DataValue<'a>];

fn hash_v2<'s, 'a>(
    args: Arguments<'s, 'a>,
    root: &DataValue<'_>,
) -> Option<(u32, Arguments<'s, 'a>)> {
    let (first, rest) = args.split_first()?;
    let buckets = match first {
        DataValue::String(text) => return Some((murmur3_32(text.as_bytes(), 0), rest)),
        DataValue::Null => rest,
        _ => args,
    };
    let (flag_key, targeting_key) = identity(root)?;
    let text = format!("{flag_key}{targeting_key}");
    Some((murmur3_32(text.as_bytes(), 0), buckets))
}

fn hash_v3<'s, 'a>(
    args: Arguments<'s, 'a>,
    root: &DataValue<'_>,
) -> Option<(u32, Arguments<'s, 'a>)> {
    let (first, rest) = args.split_first()?;
    let mut bytes = Vec::with_capacity(64);
    let buckets = match first {
        DataValue::Null => return None,
        DataValue::Array(_) => {
            let (flag_key, targeting_key) = identity(root)?;
            cbor::encode_pair(flag_key, targeting_key, &mut bytes);
            args
        }
        value => {
            cbor::encode(value, &mut bytes);
            rest
        }
    };
    Some((murmur3_32(&bytes, 0), buckets))
}

/// Flag key and targeting key; `None` without a targeting key, which would put everybody into one bucket.
fn identity<'a>(root: &DataValue<'a>) -> Option<(&'a str, &'a str)> {
    let targeting_key = root.get("targetingKey")?.as_str()?;
    let flag_key = root.get("$flagd")?.get("flagKey")?.as_str()?;
    (!targeting_key.is_empty()).then_some((flag_key, targeting_key))
}

/// The bucket that `hash` falls into: `hash * total / 2^32`, in whole numbers.
fn pick<'a>(hash: u32, buckets: Arguments<'_, 'a>) -> Option<&'a DataValue<'a>> {
    let mut total: u64 = 0;
    for bucket in buckets {
        total += weight(bucket)?.1;
    }
    if total == 0 || i32::try_from(total).is_err() {
        return None;
    }
    let place = (u64::from(hash) * total) >> 32;
    let mut end = 0;
    for bucket in buckets {
        let (variant, weight) = weight(bucket)?;
        end += weight;
        if place < end {
            return Some(variant);
        }
    }
    None
}

/// A bucket's variant and weight: 1 if it says none, 0 if it says less.
fn weight<'a>(bucket: &'a DataValue<'a>) -> Option<(&'a DataValue<'a>, u64)> {
    let items = bucket.as_array()?;
    let variant = items.first()?;
    if matches!(variant, DataValue::Array(_) | DataValue::Object(_)) {
        return None;
    }
    let weight = match items.get(1) {
        Some(DataValue::Number(NumberValue::Integer(weight))) => *weight,
        Some(DataValue::Number(NumberValue::Float(weight))) => whole(*weight)?,
        _ => 1,
    };
    // More than the sum may be is as good as that.
    let weight = weight.clamp(0, i64::from(u32::MAX));
    Some((variant, u64::try_from(weight).ok()?))
}

fn whole(weight: f64) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "integral, and what is outside the range saturates as the clamp would have it"
    )]
    (weight.fract() == 0.0).then_some(weight as i64)
}

/// `sem_ver`: compares two versions.
pub(super) struct SemVer;

impl CustomOperator for SemVer {
    fn evaluate<'a>(
        &self,
        args: &[&'a DataValue<'a>],
        _: &mut EvalContext<'_, 'a>,
        arena: &'a Bump,
    ) -> Result<&'a DataValue<'a>> {
        let [a, DataValue::String(operator), b] = args else {
            return Ok(arena.null());
        };
        let said = version_text(a, arena)
            .zip(version_text(b, arena))
            .and_then(|(a, b)| Version::parse(a)?.compare(operator, &Version::parse(b)?));
        Ok(said.map_or_else(|| arena.null(), |said| arena.bool(said)))
    }
}

fn version_text<'a>(value: &DataValue<'a>, arena: &'a Bump) -> Option<&'a str> {
    match value {
        DataValue::String(text) => Some(text),
        DataValue::Number(NumberValue::Integer(number)) => {
            Some(arena.alloc_str(&number.to_string()))
        }
        DataValue::Number(NumberValue::Float(number)) => Some(arena.alloc_str(&number.to_string())),
        _ => None,
    }
}

/// `starts_with` and `ends_with`.
pub(super) enum Affix {
    /// Whether the first string starts with the second.
    Start,
    /// Whether the first string ends with the second.
    End,
}

impl CustomOperator for Affix {
    fn evaluate<'a>(
        &self,
        args: &[&'a DataValue<'a>],
        _: &mut EvalContext<'_, 'a>,
        arena: &'a Bump,
    ) -> Result<&'a DataValue<'a>> {
        let [DataValue::String(text), DataValue::String(affix)] = args else {
            return Ok(arena.null());
        };
        Ok(arena.bool(match self {
            Self::Start => text.starts_with(affix),
            Self::End => text.ends_with(affix),
        }))
    }
}
