//! Whether each guard guards something: a slip in its path would leave a method open without a word.

use std::collections::{BTreeSet, HashMap};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::ServerError;
use super::handler::Handler;

/// Checks one guard's path: its form, its service, and the method where the service's descriptors are known.
///
/// A path below no service is the fallback's, whose routes nobody here can know.
pub(super) fn check(
    path: &str,
    services: &HashMap<&'static str, Handler>,
    has_fallback: bool,
    descriptors: &[&[u8]],
) -> Result<(), ServerError> {
    let Some((service, method)) = parts(path) else {
        let path = path.to_owned();
        return Err(ServerError::GuardForm { path });
    };
    if !services.contains_key(service) {
        if has_fallback {
            return Ok(());
        }
        let path = path.to_owned();
        return Err(ServerError::GuardsNothing { path });
    }
    let methods = methods_of(service, descriptors);
    if method == "*" || methods.is_empty() || methods.contains(method) {
        return Ok(());
    }
    Err(ServerError::GuardsNoMethod {
        path: path.to_owned(),
        methods: methods.into_iter().collect(),
    })
}

/// `/service/method` or `/service/*`, and nothing else: a path with more slashes would match no call of a service.
fn parts(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let plain = |part: &str| !part.is_empty() && !part.contains(['/', '*']);
    (plain(service) && (method == "*" || plain(method))).then_some((service, method))
}

/// Empty where no descriptor set knows the service. Unreadable sets were reported before.
fn methods_of(service: &str, descriptors: &[&[u8]]) -> BTreeSet<String> {
    let sets = descriptors
        .iter()
        .filter_map(|set| FileDescriptorSet::decode(*set).ok());
    let mut methods = BTreeSet::new();
    for file in sets.flat_map(|set| set.file) {
        let package = file.package().to_owned();
        for known in file.service {
            let name = match package.as_str() {
                "" => known.name().to_owned(),
                package => format!("{package}.{}", known.name()),
            };
            if name == service {
                methods.extend(known.method.into_iter().filter_map(|method| method.name));
            }
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn only_a_service_with_a_method_or_all_of_them_is_a_guards_path() {
        assert_eq!(parts("/a.B/C"), Some(("a.B", "C")));
        assert_eq!(parts("/a.B/*"), Some(("a.B", "*")));
        for path in [
            "", "/", "a.B/C", "/a.B", "/a.B/", "//C", "/a.B/C/", "/a.B/C/D", "/*/C", "/*",
            "/a.B/C*",
        ] {
            assert_eq!(parts(path), None, "{path}");
        }
    }
}
