//! Evaluation: one flag, one context, one answer. Knows no clock, no network and no JSON text.
//!
//! The algorithm is flagd's (`../shared/facts/flagd.md` 2.4): disabled, then targeting, then the default
//! variant, then the code's own default.

mod cbor;
mod context;
mod murmur;
mod operators;
mod rule;
mod semver;

pub use context::{Attributes, Context};
pub use operators::Fractional;
pub use rule::{Rule, RuleError, Shadowed};

use rule::Rules;
use serde_json::Value;

use crate::model::{Flag, Variant};
use crate::value::integral;

/// Why a flag has the value it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has no targeting. The only answer that a client may keep until the flag changes.
    Static,
    /// Its targeting named this variant.
    TargetingMatch,
    /// Its targeting named no variant, or there is none to have: the default.
    Default,
    /// It is switched off.
    Disabled,
}

impl Reason {
    /// The word that flagd uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "STATIC",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Default => "DEFAULT",
            Self::Disabled => "DISABLED",
        }
    }
}

/// Why a flag has no value. The texts are what flagd's clients see.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// There is no such flag, or (v1 of the protocol) no value to have.
    #[error("Flag not found")]
    NotFound,
    /// The value is of another type.
    #[error("Type mismatch error")]
    TypeMismatch,
    /// The rule cannot be run.
    #[error("Error parsing input or configuration")]
    Parse(#[source] RuleError),
    /// The rule named a variant that the flag does not have.
    #[error("General error")]
    NoVariant {
        /// The name.
        name: String,
    },
}

impl EvalError {
    /// OpenFeature's error code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "FLAG_NOT_FOUND",
            Self::TypeMismatch => "TYPE_MISMATCH",
            Self::Parse(_) => "PARSE_ERROR",
            Self::NoVariant { .. } => "GENERAL",
        }
    }
}

/// The answer for one flag.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'f> {
    /// Name and value; `None` tells the caller to use the default in its code.
    pub variant: Option<(&'f str, &'f Variant)>,
    /// Why.
    pub reason: Reason,
}

/// What an integer is asked of a number that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Integers {
    /// 3.14 is 3, as flagd has it.
    #[default]
    Truncate,
    /// 3.14 is a type mismatch, and so is what a double cannot count: beyond 2^53 - 1.
    Lossless,
}

/// Compiles and evaluates flags.
#[derive(Debug)]
pub struct Evaluator {
    rules: Rules,
    integers: Integers,
}

impl Evaluator {
    /// An evaluator with one generation of `fractional`.
    ///
    /// # Errors
    /// When the build's rule engine has operators under our names: see [`Shadowed`].
    pub fn new(fractional: Fractional, integers: Integers) -> Result<Self, Shadowed> {
        let rules = Rules::new(fractional)?;
        Ok(Self { rules, integers })
    }

    /// Makes a rule of a flag's `targeting`. One that cannot be run is kept: its flag answers with an error.
    #[must_use]
    pub fn compile(&self, targeting: &Value) -> Rule {
        self.rules.compile(targeting)
    }

    /// An operator in `targeting` that does not exist: reaching it is a parse error.
    #[must_use]
    pub fn unknown_operator<'v>(&self, targeting: &'v Value) -> Option<&'v str> {
        self.rules.unknown_operator(targeting)
    }

    /// Evaluates `flag` for `context`.
    ///
    /// # Errors
    /// See [`EvalError`]; never `NotFound` or `TypeMismatch`, which only the asker can know.
    pub fn evaluate<'f>(
        &self,
        flag: &'f Flag,
        context: &Context<'_>,
    ) -> Result<Outcome<'f>, EvalError> {
        if flag.disabled {
            return Ok(Outcome {
                variant: None,
                reason: Reason::Disabled,
            });
        }
        let Some(rule) = &flag.rule else {
            return Ok(default(flag, Reason::Static));
        };
        let named = self.rules.run(rule, &flag.key, context);
        let Some(name) = named.map_err(EvalError::Parse)? else {
            return Ok(default(flag, Reason::Default));
        };
        match flag.variants.get(&name) {
            found @ Some(_) => Ok(Outcome {
                variant: found,
                reason: Reason::TargetingMatch,
            }),
            None => Err(EvalError::NoVariant { name }),
        }
    }

    /// `variant` as an integer.
    ///
    /// # Errors
    /// `TypeMismatch` for what is no number, and in lossless mode for what is no integer.
    pub fn integer(&self, variant: &Variant) -> Result<i64, EvalError> {
        let number = number(variant)?;
        match self.integers {
            Integers::Truncate =>
            {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "truncation is what this mode is for; it saturates"
                )]
                Ok(number as i64)
            }
            Integers::Lossless => integral(number)
                .filter(|integer| integer.unsigned_abs() < 1 << 53)
                .ok_or(EvalError::TypeMismatch),
        }
    }
}

/// `variant` as a number.
///
/// # Errors
/// `TypeMismatch` for what is none.
pub fn number(variant: &Variant) -> Result<f64, EvalError> {
    variant.value.as_f64().ok_or(EvalError::TypeMismatch)
}

/// The default variant; without one, the code's own default.
fn default(flag: &Flag, reason: Reason) -> Outcome<'_> {
    let variant = flag.variants.default();
    Outcome {
        variant,
        reason: if variant.is_some() {
            reason
        } else {
            Reason::Default
        },
    }
}
