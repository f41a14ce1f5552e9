//! What is followed, under which name, and what is refused with which words.

use serde_json::json;

use super::*;

fn of(config: Value) -> Result<Address, AddressError> {
    Address::of(&serde_json::from_value(config).unwrap())
}

#[test]
fn files_have_two_forms() {
    let file = Address::parse("file:flags/a.json").unwrap();
    assert_eq!(file.name(), "flags/a.json");
    assert_eq!(
        of(json!({"uri": "flags/a.json", "provider": "file"})),
        Ok(file)
    );
    assert_eq!(Address::parse("file:"), Err(AddressError::Empty));
    assert_eq!(Address::parse(""), Err(AddressError::Empty));
}

#[test]
fn grpc_servers_are_reached_by_socket_and_by_network() {
    for (text, name, address, tls) in [
        ("grpc://h:1", "h:1", "tcp:h:1", false),
        ("grpcs://h:1", "h:1", "https://h:1", true),
        ("grpc://[::1]:1", "[::1]:1", "tcp:[::1]:1", false),
        ("dns:///h:1", "dns:///h:1", "tcp:h:1", false),
        ("unix:/s", "unix:/s", "unix:/s", false),
        (
            "unix-abstract:s",
            "unix-abstract:s",
            "unix-abstract:s",
            false,
        ),
        ("grpc://unix:///s", "unix:///s", "unix:/s", false),
        ("uds:///s", "uds:///s", "unix:/s", false),
    ] {
        let source = Address::parse(text).unwrap();
        assert_eq!(source.name(), name, "{text}");
        let Address::Grpc(grpc) = source else {
            panic!("{text}");
        };
        assert_eq!(
            (grpc.address.to_string().as_str(), grpc.tls),
            (address, tls),
            "{text}"
        );
    }
    let told = of(
        json!({"uri": "h:1", "provider": "grpc", "tls": true, "certPath": "ca.pem",
        "providerID": "me", "selector": "flagSetId=s", "maxMsgSize": 7}),
    );
    let Ok(Address::Grpc(grpc)) = told else {
        panic!("{told:?}");
    };
    assert_eq!(grpc.certificate.as_deref(), Some("ca.pem".as_ref()));
    assert_eq!(
        (grpc.provider_id.as_str(), grpc.selector.as_str()),
        ("me", "flagSetId=s")
    );
    assert_eq!((grpc.message_bytes_max, grpc.interval), (7, INTERVAL));
}

#[test]
fn web_servers_are_asked_with_a_header_that_is_not_shown() {
    let plain = Address::parse("https://h/flags.json").unwrap();
    assert_eq!(plain.name(), "https://h/flags.json");
    for (member, text, header) in [
        ("authHeader", "Basic x", "Basic x"),
        ("bearerToken", "token", "Bearer token"),
    ] {
        let source =
            of(json!({"uri": "http://h/", "provider": "http", member: text, "interval": 9}));
        let Ok(Address::Http(http)) = source else {
            panic!("{source:?}");
        };
        assert_eq!(http.authorization.as_ref().unwrap(), header);
        assert_eq!(http.interval, Duration::from_secs(9));
        assert!(!format!("{http:?}").contains(text));
    }
}

#[test]
fn the_rest_is_refused_by_name() {
    for (text, words) in [
        ("core.openfeature.dev/ns/name", "Kubernetes"),
        ("s3://b/k", "S3"),
        ("gs://b/k", "Google Cloud Storage"),
        ("azblob://b/k", "Azure Blob"),
        ("envoy://h/x", "Envoy"),
        ("a.json", "its scheme is none of"),
        ("grpc:h:1", "its scheme is none of"),
        ("http://", "http(s) URL"),
        ("http://me:secret@h/", "credentials"),
        ("grpc://h", "port"),
    ] {
        let error = Address::parse(text).unwrap_err();
        assert!(error.to_string().contains(words), "{text}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    for (config, words) in [
        (
            json!({"uri": "x", "provider": "gcs"}),
            "Google Cloud Storage",
        ),
        (json!({"uri": "x", "provider": "?"}), "unknown provider"),
        (json!({"uri": "h", "provider": "http"}), "http(s) URL"),
        (
            json!({"uri": "http://h", "provider": "http", "authHeader": "a", "bearerToken": "b"}),
            "exclude each other",
        ),
        (
            json!({"uri": "http://h", "provider": "http", "authHeader": "a\nb"}),
            "no header",
        ),
        (
            json!({"uri": "http://h", "provider": "http", "oauth": {}}),
            "OAuth",
        ),
    ] {
        let error = of(config.clone()).unwrap_err();
        assert!(error.to_string().contains(words), "{config}: {error}");
    }
}
