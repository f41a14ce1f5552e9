//! Rules: compiled when flags are loaded, run in an arena that the thread keeps.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use datalogic_rs::bumpalo::Bump;
use datalogic_rs::datavalue::NumberValue;
use datalogic_rs::{DataValue, Engine, Logic};
use serde_json::Value;

use super::context::Context;
use super::operators::{Affix, Fractional, FractionalOperator, SemVer};
use crate::value;

/// Bytes of arena that a thread keeps between evaluations; one huge context is not held for ever.
const ARENA_KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static ARENA: RefCell<Bump> = RefCell::new(Bump::new());
}

/// The rule engine has an operator of its own under one of flagd's names, and would run that instead.
///
/// It happens when some other package of the build switches on the engine's features.
#[derive(Debug, thiserror::Error)]
#[error("the rule engine shadows flagd's operator {name:?}")]
pub struct Shadowed {
    /// The operator.
    pub name: &'static str,
}

impl Shadowed {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some("build nigh-flagd without datalogic-rs's features `flagd` and `ext-string`")
    }
}

/// A rule that cannot be run: an unknown operator, mostly.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(Arc<datalogic_rs::Error>);

/// A flag's targeting, ready to run.
#[derive(Debug, Clone)]
pub struct Rule(Result<Arc<Logic>, RuleError>);

impl Rule {
    /// Why it cannot be run, if it cannot.
    #[must_use]
    pub fn error(&self) -> Option<&RuleError> {
        self.0.as_ref().err()
    }
}

/// Compiles rules and runs them.
#[derive(Debug)]
pub(super) struct Rules {
    engine: Engine,
    /// Every operator that exists: asked of each one of each flag when flags are loaded.
    known: HashSet<&'static str>,
}

impl Rules {
    pub(super) fn new(fractional: Fractional) -> Result<Self, Shadowed> {
        const NAMES: [&str; 4] = ["fractional", "sem_ver", "starts_with", "ends_with"];
        let engine = Engine::builder()
            .add_operator(NAMES[0], FractionalOperator(fractional))
            .add_operator(NAMES[1], SemVer)
            .add_operator(NAMES[2], Affix::Start)
            .add_operator(NAMES[3], Affix::End)
            .build();
        let ours = |name: &&str| NAMES.contains(name);
        match engine.builtin_operator_names().find(ours) {
            Some(name) => Err(Shadowed { name }),
            None => {
                let known = engine.builtin_operator_names().chain(NAMES).collect();
                Ok(Self { engine, known })
            }
        }
    }

    pub(super) fn compile(&self, targeting: &Value) -> Rule {
        let logic = self.engine.compile_arc(value::to_rule(targeting));
        Rule(logic.map_err(|error| RuleError(Arc::new(error))))
    }

    /// An operator in `targeting` that does not exist, which only fails when it is reached.
    pub(super) fn unknown_operator<'v>(&self, targeting: &'v Value) -> Option<&'v str> {
        match targeting {
            Value::Array(items) => items.iter().find_map(|item| self.unknown_operator(item)),
            Value::Object(members) => members.iter().find_map(|(name, arguments)| {
                if self.known.contains(name.as_str()) {
                    self.unknown_operator(arguments)
                } else {
                    Some(name.as_str())
                }
            }),
            _ => None,
        }
    }

    /// The variant that the rule names; `None` where it names none.
    pub(super) fn run(
        &self,
        rule: &Rule,
        flag_key: &str,
        context: &Context<'_>,
    ) -> Result<Option<String>, RuleError> {
        let logic = rule.0.as_ref().map_err(Clone::clone)?;
        ARENA.with(|arena| match arena.try_borrow_mut() {
            Ok(mut arena) => {
                let answer = self.run_in(logic, flag_key, context, &arena);
                arena.reset();
                if arena.chunk_capacity() > ARENA_KEPT_BYTES {
                    *arena = Bump::new();
                }
                answer
            }
            Err(_) => self.run_in(logic, flag_key, context, &Bump::new()),
        })
    }

    fn run_in(
        &self,
        logic: &Logic,
        flag_key: &str,
        context: &Context<'_>,
        arena: &Bump,
    ) -> Result<Option<String>, RuleError> {
        let input = context.input(flag_key, arena);
        let answer = self.engine.evaluate(logic, input, arena);
        let answer = answer.map_err(|error| RuleError(Arc::new(error)))?;
        Ok(variant_name(answer))
    }
}

/// The answer's JSON text without any quotation mark, which is how flagd makes a name of it.
fn variant_name(answer: &DataValue<'_>) -> Option<String> {
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
    };
    Some(match answer {
        DataValue::Null => return None,
        DataValue::Bool(truth) => truth.to_string(),
        DataValue::String(text) if plain(text) => (*text).to_owned(),
        DataValue::Number(NumberValue::Float(number)) => value::json_number(*number).to_string(),
        other => other.to_json_string().replace('"', ""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(rule: &Value) -> Result<Option<String>, RuleError> {
        let rules = Rules::new(Fractional::V2).unwrap();
        rules.run(&rules.compile(rule), "flag", &Context::default())
    }

    #[test]
    fn an_answer_is_text_without_quotation_marks() {
        for (rule, name) in [
            (json!("on"), "on"),
            (json!(""), ""),
            (json!(true), "true"),
            (json!(3), "3"),
            (json!(3.0), "3"),
            (json!(3.5), "3.5"),
            (json!("a\"b"), "a\\b"),
            (json!(["a", 1]), "[a,1]"),
        ] {
            assert_eq!(answer(&rule).unwrap().as_deref(), Some(name), "{rule}");
        }
        assert_eq!(answer(&json!(null)).unwrap(), None);
        assert_eq!(answer(&json!({"var": "missing"})).unwrap(), None);
    }

    #[test]
    fn an_unknown_operator_is_an_error() {
        assert!(answer(&json!({"no_such": [1]})).is_err());
        let dead = json!({"if": [false, {"no_such": [1]}, "on"]});
        assert!(
            answer(&dead).is_ok(),
            "a branch that is not taken is not run"
        );
        let rules = Rules::new(Fractional::V2).unwrap();
        assert_eq!(rules.unknown_operator(&dead), Some("no_such"));
        let known = json!({"if": [{"fractional": [["a", {"+": [1, 2]}]]}, {}, {"var": "x"}]});
        assert_eq!(rules.unknown_operator(&known), None);
    }

    #[test]
    fn our_operators_are_not_shadowed() {
        assert!(Rules::new(Fractional::V3).is_ok());
        assert_eq!(
            answer(&json!({"starts_with": ["abc", "ab"]}))
                .unwrap()
                .as_deref(),
            Some("true")
        );
        assert_eq!(answer(&json!({"ends_with": ["abc"]})).unwrap(), None);
    }
}
