//! Names that look like the one that was meant. Pure.

/// Most names to suggest.
const SUGGESTIONS_MAX: usize = 3;

/// The candidates closest to `wanted`, closest first; none that differ in more than a third of their letters.
pub(crate) fn near<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut ranked: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let limit = 1 + lower.len().max(wanted.len()) / 3;
            let distance = distance(&wanted, &lower);
            // `Echo` is meant by `diag.Echo`, however long the rest is.
            let tail = lower.ends_with(&format!(".{wanted}"));
            (distance <= limit || tail).then_some((if tail { 0 } else { distance }, name))
        })
        .collect();
    ranked.sort();
    ranked.truncate(SUGGESTIONS_MAX);
    ranked
        .into_iter()
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// `did you mean a, b?`, or nothing.
pub(crate) fn question(near: &[String]) -> Option<String> {
    (!near.is_empty()).then(|| format!("did you mean {}?", near.join(", ")))
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let substitution = diagonal + usize::from(x != *y);
            diagonal = *cell;
            left = substitution.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        row[0] = i + 1;
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn closest_first_and_nothing_far() {
        let names = ["Echo", "EchoStream", "Upload", "Fail"];
        assert_eq!(near("Ecko", names), ["Echo"]);
        assert_eq!(near("echo", names), ["Echo"]);
        assert_eq!(near("Uplod", names), ["Upload"]);
        assert!(near("Whatever", names).is_empty());
    }

    #[test]
    fn a_service_is_found_by_its_last_name() {
        assert_eq!(
            near("Diag", ["nigh.diag.v1.Diag", "grpc.health.v1.Health"]),
            ["nigh.diag.v1.Diag"]
        );
    }
}
