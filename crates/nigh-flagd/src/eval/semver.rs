//! Versions as flagd's `sem_ver` compares them: SemVer 2.0 with a `v` allowed and short forms padded.

use std::cmp::Ordering;

/// A version; build metadata is dropped, as it has no part in comparisons.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Version<'a> {
    core: [&'a str; 3],
    /// Empty for a release.
    pre_release: &'a str,
}

impl<'a> Version<'a> {
    /// `None` for what is no version: too many parts, leading zeros, empty identifiers.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, Some(build)),
            None => (text, None),
        };
        let (core_text, pre_release) = match text.split_once('-') {
            Some((core, pre_release)) => (core, Some(pre_release)),
            None => (text, None),
        };
        let mut core = ["0"; 3];
        let mut parts = 0;
        for part in core_text.split('.') {
            *core.get_mut(parts)? = part;
            parts += 1;
            if !is_number(part) {
                return None;
            }
        }
        // Only a full version can have more behind it.
        if parts < 3 && (pre_release.is_some() || build.is_some()) {
            return None;
        }
        let good = |part: &str| is_identifier(part) && (!all_digits(part) || is_number(part));
        if pre_release.is_some_and(|text| !text.split('.').all(good))
            || build.is_some_and(|text| !text.split('.').all(is_identifier))
        {
            return None;
        }
        Some(Self {
            core,
            pre_release: pre_release.unwrap_or_default(),
        })
    }

    /// What `operator` says of these two; `None` for an unknown operator.
    pub(super) fn compare(&self, operator: &str, other: &Self) -> Option<bool> {
        let order = self.order(other);
        Some(match operator {
            "=" => order == Ordering::Equal,
            "!=" => order != Ordering::Equal,
            "<" => order == Ordering::Less,
            "<=" => order != Ordering::Greater,
            ">" => order == Ordering::Greater,
            ">=" => order != Ordering::Less,
            "^" => self.core[0] == other.core[0],
            "~" => self.core[..2] == other.core[..2],
            _ => return None,
        })
    }

    /// SemVer 2.0, 11.
    fn order(&self, other: &Self) -> Ordering {
        let pairs = self.core.iter().zip(&other.core);
        let core = pairs
            .map(|(a, b)| number(a, b))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal);
        core.then_with(
            || match (self.pre_release.is_empty(), other.pre_release.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => pre_release(self.pre_release, other.pre_release),
            },
        )
    }
}

fn pre_release(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (all_digits(a), all_digits(b)) {
                (true, true) => number(a, b),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Orders digits of any length, without leading zeros.
fn number(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn is_number(text: &str) -> bool {
    all_digits(text) && (text == "0" || !text.starts_with('0'))
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(a: &str, operator: &str, b: &str) -> Option<bool> {
        Version::parse(a)?.compare(operator, &Version::parse(b)?)
    }

    #[test]
    fn order_is_that_of_semver() {
        let order = [
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "v1",
            "1.0.1",
            "1.2.0",
            "10.0.0",
            "99999999999999999999999.0.0",
        ];
        for (index, a) in order.iter().enumerate() {
            for (other, b) in order.iter().enumerate() {
                assert_eq!(compare(a, "<", b), Some(index < other), "{a} < {b}");
                assert_eq!(compare(a, ">=", b), Some(index >= other), "{a} >= {b}");
                assert_eq!(compare(a, "=", b), Some(index == other), "{a} = {b}");
                assert_eq!(compare(a, "!=", b), Some(index != other), "{a} != {b}");
            }
        }
    }

    #[test]
    fn ranges_short_forms_and_build_metadata() {
        assert_eq!(compare("V1.5.0", "^", "1"), Some(true));
        assert_eq!(compare("2.0.0", "^", "1"), Some(false));
        assert_eq!(compare("3.0.1", "~", "3.0.0"), Some(true));
        assert_eq!(compare("3.1.0", "~", "3.0.0"), Some(false));
        assert_eq!(compare("1.0.0+a", "=", "1.0.0+b"), Some(true));
    }

    #[test]
    fn what_is_no_version_compares_to_nothing() {
        for text in [
            "",
            "v",
            "x",
            "1.",
            ".1",
            "1..2",
            "2.0.0.0",
            "01.0.0",
            "1.0.0-",
            "1.0.0-a..b",
            "1.0.0-01",
            "1.0.0+",
            "1.2-alpha",
            "1.0.0 ",
            "1.0.0-ä",
        ] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
        assert_eq!(compare("1.0.0", "===", "1.0.0"), None);
        assert!(Version::parse("1.0.0+01.x-y").is_some());
    }
}
