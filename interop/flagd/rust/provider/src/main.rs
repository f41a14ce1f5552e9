//! Runs flagd's testbed through the published Rust provider, against a daemon that is already there.
//!
//! `provider SOCKET TESTBED SUITE VIEW`, SUITE being `rpc` or `evaluator`, VIEW being `v2` or `v3`.
//! Trap: some cases cannot pass with this provider whatever the server does; they are listed with the reason.

#[path = "../../../../../crates/nigh-flagd/tests/it/gherkin.rs"]
mod gherkin;

use std::path::PathBuf;
use std::process::ExitCode;

use gherkin::{Backend, Case, Details, Question};
use open_feature::provider::{FeatureProvider, ResolutionDetails};
use open_feature::{EvaluationContext, EvaluationError, EvaluationReason};
use open_feature_flagd::{CacheSettings, CacheType, FlagdOptions, FlagdProvider, ResolverType};
use serde_json::{Map, Value, json};

struct Published {
    runtime: tokio::runtime::Runtime,
    provider: FlagdProvider,
}

fn context(question: &Question) -> EvaluationContext {
    let mut context = EvaluationContext::default();
    for (key, value) in &question.context {
        context = match value {
            Value::String(text) if key == "targetingKey" => context.with_targeting_key(text),
            Value::String(text) => context.with_custom_field(key, text.as_str()),
            Value::Bool(truth) => context.with_custom_field(key, *truth),
            Value::Number(number) if number.is_i64() => {
                context.with_custom_field(key, number.as_i64().unwrap_or_default())
            }
            Value::Number(number) => {
                context.with_custom_field(key, number.as_f64().unwrap_or_default())
            }
            // Left out by `cannot`: the provider has no way to say it.
            _ => context,
        };
    }
    context
}

fn details<T>(
    answer: Result<ResolutionDetails<T>, EvaluationError>,
    value: impl Fn(T) -> Value,
) -> Details {
    match answer {
        Err(error) => Details {
            reason: "ERROR".into(),
            error_code: error.code.to_string(),
            ..Details::default()
        },
        Ok(answer) => {
            let metadata = answer.flag_metadata.unwrap_or_default().values.into_iter();
            let metadata = metadata.map(|(key, value)| {
                use open_feature::FlagMetadataValue as M;
                let value = match value {
                    M::Bool(truth) => json!(truth),
                    M::Int(number) => json!(number),
                    M::Float(number) => json!(number),
                    M::String(text) => json!(text),
                };
                (key, value)
            });
            Details {
                value: Some(value(answer.value)),
                reason: match answer.reason {
                    Some(EvaluationReason::Static) => "STATIC".into(),
                    Some(EvaluationReason::Default) => "DEFAULT".into(),
                    Some(EvaluationReason::TargetingMatch) => "TARGETING_MATCH".into(),
                    Some(EvaluationReason::Disabled) => "DISABLED".into(),
                    Some(EvaluationReason::Other(reason)) => reason,
                    other => format!("{other:?}"),
                },
                variant: answer.variant.unwrap_or_default(),
                metadata: metadata.collect(),
                ..Details::default()
            }
        }
    }
}

impl Backend for Published {
    fn evaluate(&mut self, question: &Question) -> Details {
        let (key, context, provider) = (&question.key, &context(question), &self.provider);
        let run = &self.runtime;
        match question.kind.as_str() {
            "Boolean" => details(run.block_on(provider.resolve_bool_value(key, context)), Value::from),
            "Integer" => details(run.block_on(provider.resolve_int_value(key, context)), Value::from),
            "Float" => details(run.block_on(provider.resolve_float_value(key, context)), Value::from),
            "String" => details(run.block_on(provider.resolve_string_value(key, context)), Value::from),
            _ => details(run.block_on(provider.resolve_struct_value(key, context)), |value| {
                plain(&open_feature::Value::Struct(value))
            }),
        }
    }
}

fn plain(value: &open_feature::Value) -> Value {
    use open_feature::Value as V;
    match value {
        V::Bool(truth) => json!(truth),
        V::Int(number) => json!(number),
        V::Float(number) => json!(number),
        V::String(text) => json!(text),
        V::Array(items) => items.iter().map(plain).collect(),
        V::Struct(members) => {
            let members = members.fields.iter();
            let members: Map<String, Value> = members.map(|(key, value)| (key.clone(), plain(value))).collect();
            Value::Object(members)
        }
    }
}

/// Why this case cannot pass with this provider, whatever the server answers.
fn cannot(case: &Case, suite: &str) -> Option<&'static str> {
    let any = |text: &str| case.steps.iter().any(|step| step.text.contains(text));
    if any("an option \"selector\"") || any("a metadata flagd provider") {
        return Some("it has no selector over RPC");
    }
    if any("nested property") || any("with type \"Object\" and with value") {
        return Some("its context holds no structures");
    }
    if any("the reason should be \"DISABLED\"") {
        return Some("it gives the zero value for a disabled flag");
    }
    if any("the error-code should be \"TYPE_MISMATCH\"") {
        return Some("it takes a type mismatch for an invalid context");
    }
    if any("PARSE_ERROR") || any("the error-code should be \"GENERAL\"") {
        return Some("it takes every other failure for a general one, with the text as its code");
    }
    let no_default = case.tags.iter().any(|tag| tag == "@no-default-variant");
    if no_default && suite == "rpc" || no_default && any("the reason should be \"DEFAULT\"") {
        return Some("it speaks v1, which says FLAG_NOT_FOUND instead");
    }
    None
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, socket, testbed, suite, view] = &arguments[..] else {
        eprintln!("usage: provider SOCKET TESTBED rpc|evaluator v2|v3");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let options = FlagdOptions {
        resolver_type: ResolverType::Rpc,
        socket_path: Some(socket.clone()),
        cache_settings: Some(CacheSettings {
            cache_type: CacheType::Disabled,
            ..CacheSettings::default()
        }),
        ..FlagdOptions::default()
    };
    let provider = runtime.block_on(FlagdProvider::new(options)).expect("the provider connects");
    let mut backend = Published { runtime, provider };
    let (folder, names): (_, &[&str]) = match suite.as_str() {
        "rpc" => ("gherkin", &["targeting", "evaluation", "disabled", "metadata", "contextEnrichment"]),
        _ => (
            "evaluator/gherkin",
            &["disabled", "string", "targeting", "no-default-variant", "evaluator-refs", "errors",
              "evaluation", "semver", "metadata", "zero-values", "fractional"],
        ),
    };
    let files: Vec<PathBuf> = names
        .iter()
        .map(|name| PathBuf::from(testbed).join(folder).join(format!("{name}.feature")))
        .collect();
    let (mut passed, mut failed, mut left) = (0, 0, 0);
    for case in files.iter().flat_map(|file| gherkin::read(file)) {
        if !gherkin::belongs(&case, view, &[]) {
            continue;
        }
        if let Some(reason) = cannot(&case, suite) {
            left += 1;
            println!("skip - rust {suite} {view}: {}: {reason}", case.name);
            continue;
        }
        match gherkin::run(&case, &mut backend) {
            Ok(()) => {
                passed += 1;
                println!("ok - rust {suite} {view}: {}", case.name);
            }
            Err(error) => {
                failed += 1;
                println!("not ok - rust {suite} {view}: {}: {error}", case.name);
            }
        }
    }
    println!("rust {suite} {view}: {passed} passed, {failed} failed, {left} beyond the provider");
    ExitCode::from(u8::from(failed > 0))
}
