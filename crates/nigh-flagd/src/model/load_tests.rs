//! Tests of loading: what is refused and where, what is noted, what is merged.

use serde_json::json;

use super::*;
use crate::eval::{Fractional, Integers};

fn load_json(text: &str) -> Result<FlagSet, LoadError> {
    let evaluator = Evaluator::new(Fractional::V2, Integers::Truncate).unwrap();
    load(text, Format::Json, &evaluator)
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    for (text, message) in [
        ("", "line 1, column 1: it is empty"),
        (" \n\t", "line 1, column 1: it is empty"),
        (
            "[]",
            "line 1, column 1: the document is an array, not an object",
        ),
        ("{}", "line 1, column 1: it has no \"flags\""),
        (
            "{\"flags\":\n {\"a\": 1}}",
            "line 2, column 8: flag \"a\" is a number, not an object",
        ),
        (
            "{\"flags\": {\"a\": {\n\"variants\": {\"on\": 1},\n \"defaultVariant\": \"off\"}}}",
            "line 3, column 20: flag \"a\": the default variant \"off\" is not among its variants",
        ),
        (
            "{\"flags\": {\"a\": {\"defaultVariant\": true}}}",
            "line 1, column 36: flag \"a\": defaultVariant is a boolean, not a string",
        ),
        (
            "{\"flags\": [{\"key\": \"\"}]}",
            "line 1, column 12: flag number 1 has no \"key\"",
        ),
        (
            "{\"flags\": {\"a\"",
            "line 1, column 14: EOF while parsing an object",
        ),
        (
            "{\"flags\": {\"a\": {},\n \"b\": {\"x\": 1e999}}}",
            "line 2, column 17: number out of range",
        ),
        (
            "{\"flags\": {\"a\": {}},\n \"b\": [1e999]}",
            "line 2, column 12: number out of range",
        ),
        (
            "{\"flags\": {\"a\": {\"x\": [}}}}",
            "line 1, column 24: expected value",
        ),
        (
            "{\"flags\": {\"a\": {}}}\n}",
            "line 2, column 1: trailing characters",
        ),
        (
            "{\"flags\": {}, \"metadata\": 1}",
            "line 1, column 27: \"metadata\" is a number, not an object",
        ),
    ] {
        assert_eq!(load_json(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn what_is_odd_is_noted_with_its_place() {
    let text = r#"{"flags": {"a": {
  "state": "ON",
  "variants": {"x": 1, "y": "z", "n": null},
  "targeting": {"no_such": 1},
  "extra": 1}, "b": {"state": "ENABLED", "targeting": {"$ref": "gone"}}}}"#;
    let notes = load_json(text).unwrap().notes;
    let notes: Vec<String> = notes.iter().map(Note::to_string).collect();
    let starts = [
        "line 2, column 12: flag \"a\": state \"ON\" is neither",
        "line 3, column 15: flag \"a\": its variants are of several types",
        "line 3, column 39: flag \"a\": variant \"n\" is null",
        "line 4, column 16: flag \"a\": its targeting cannot be run",
        "line 5, column 12: flag \"a\": unknown member \"extra\"",
        "line 5, column 21: flag \"b\" has no variants",
        "line 5, column 55: there is no shared rule \"gone\"",
    ];
    for start in starts {
        assert!(
            notes.iter().any(|note| note.starts_with(start)),
            "{start}: {notes:#?}"
        );
    }
    assert_eq!(notes.len(), starts.len(), "{notes:#?}");
}

#[test]
fn both_forms_and_metadata_merge() {
    let map = r#"{"metadata": {"flagSetId": "s", "x": 1, "n": null}, "flags": {
        "a": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "", "metadata": {"x": 2}},
        "b": {"state": "DISABLED", "variants": {"on": true}, "defaultVariant": null, "metadata": {"flagSetId": "t"}}}}"#;
    let array = r#"{"metadata": {"flagSetId": "s", "x": 1, "n": null}, "flags": [
        {"key": "b", "state": "DISABLED", "variants": {"on": true}, "defaultVariant": null, "metadata": {"flagSetId": "t"}},
        {"key": "a", "state": "ENABLED", "variants": {"on": true}, "defaultVariant": "", "metadata": {"x": 2}}]}"#;
    let (map, array) = (load_json(map).unwrap(), load_json(array).unwrap());
    assert_eq!(map.flags, array.flags);
    assert!(map.notes.is_empty() && array.notes.is_empty());
    let [a, b] = &map.flags[..] else { panic!() };
    assert_eq!((a.set_id.as_str(), b.set_id.as_str()), ("s", "t"));
    assert_eq!(
        a.metadata.json,
        *serde_json::json!({"flagSetId": "s", "x": 2})
            .as_object()
            .unwrap()
    );
    assert!(a.variants.default().is_none() && !a.disabled && b.disabled);
}

#[test]
fn of_two_flags_the_last_counts() {
    let text = r#"{"flags": [{"key": "a", "state": "DISABLED", "variants": {"x": 1}}, {"key": "a", "state": "ENABLED", "variants": {"x": 1}}]}"#;
    let set = load_json(text).unwrap();
    assert_eq!(set.flags.len(), 1);
    assert!(!set.flags[0].disabled);
    assert_eq!(set.notes[0].warning, Warning::Twice { key: "a".into() });
}

#[test]
fn of_two_members_the_last_counts() {
    let text = r#"{"flags": 1, "flags": {"a": 1, "a": {"state": "DISABLED"}}, "metadata": 1, "metadata": {"x": 2}}"#;
    let set = load_json(text).unwrap();
    let [a] = &set.flags[..] else { panic!() };
    assert!(a.disabled);
    assert_eq!(a.metadata.json["x"], json!(2));
}

#[test]
fn shared_rules_may_use_each_other_but_not_themselves() {
    let text = r#"{"flags": {"a": {"state": "ENABLED", "variants": {"x": 1}, "targeting": {"$ref": "one"}},
        "b": {"state": "ENABLED", "variants": {"x": 1}, "targeting": {"$ref": "loop"}}},
        "$evaluators": {"one": {"if": [{"$ref": "two"}, "x"]}, "two": {"==": [1, 1]}, "loop": {"!": [{"$ref": "loop"}]}}}"#;
    let set = load_json(text).unwrap();
    assert!(set.flags[0].rule.as_ref().unwrap().error().is_none());
    assert!(set.notes.iter().any(|note| note.warning
        == Warning::NoEvaluator {
            name: "loop".into()
        }));
    let mut bomb =
        String::from(r#"{"flags": {"a": {"targeting": {"$ref": "e0"}}}, "$evaluators": {"#);
    for index in 0..30 {
        let next = format!("{{\"$ref\": \"e{}\"}}", index + 1);
        bomb.push_str(&format!("\"e{index}\": [{next}, {next}],"));
    }
    bomb.push_str("\"e30\": 1}}");
    assert_eq!(load_json(&bomb).unwrap_err().fault, Fault::RefsTooLarge);
}

#[test]
fn yaml_is_the_same_and_says_where() {
    let evaluator = Evaluator::new(Fractional::V2, Integers::Truncate).unwrap();
    let text =
        "flags:\n  a:\n    state: ENABLED\n    variants: {on: true}\n    defaultVariant: off\n";
    let error = load(text, Format::Yaml, &evaluator).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 5, column 21: flag \"a\": the default variant \"off\" is not among its variants"
    );
}

/// A document of many flags, of which some are spoiled.
fn many(spoil: impl Fn(usize) -> Option<Value>) -> String {
    let flags = (0..5000).map(|number| {
        let whole = json!({
            "state": "ENABLED", "variants": {"on": number}, "defaultVariant": "on",
            "targeting": {"if": [{"$ref": "shared"}, "on", null]},
        });
        (format!("flag-{number:04}"), spoil(number).unwrap_or(whole))
    });
    let flags: Map<String, Value> = flags.collect();
    json!({"flags": flags, "$evaluators": {"shared": {"==": [{"var": "a"}, 1]}}}).to_string()
}

#[test]
fn many_flags_are_as_few_are_whichever_thread_made_them() {
    let odd = json!({"state": "odd", "variants": {"on": 1}, "defaultVariant": "on"});
    let text = many(|number| [7, 2600, 4999].contains(&number).then(|| odd.clone()));
    let set = load_json(&text).unwrap();
    assert_eq!(set.flags.len(), 5000);
    assert!(set.flags.is_sorted_by(|a, b| a.key < b.key));
    let of = |key: &str| set.flags.iter().find(|flag| *flag.key == *key).unwrap();
    assert_eq!(
        of("flag-3000").variants.get("on").unwrap().1.value,
        json!(3000)
    );
    let rule = json!({"if": [{"==": [{"var": "a"}, 1]}, "on", null]});
    let definition: Value = serde_json::from_str(&of("flag-3000").definition).unwrap();
    assert_eq!(definition["targeting"], rule);
    assert_eq!(set.notes.len(), 3);
    assert!(set.notes.is_sorted_by_key(|note| note.place));
    let bad = json!({"variants": {"on": 1}, "defaultVariant": "off"});
    let text = many(|number| [1200, 4800].contains(&number).then(|| bad.clone()));
    let error = load_json(&text).unwrap_err();
    assert!(error.to_string().contains("flag-1200"), "{error}");
}
