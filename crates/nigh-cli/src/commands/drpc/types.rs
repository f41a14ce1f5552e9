//! The types of a call's body and answer: from the user's files, or of the methods that are known here.

use nigh_drpc::modules::{sec_agent, test};
use prost_reflect::{DescriptorPool, MessageDescriptor};

use super::DrpcUsage;
use crate::call::schema::{Origin, SchemaError};
use crate::cli::DrpcArgs;
use crate::error::Failure;

const KNOWN: &str = include_str!("known.proto");

/// The types of body and answer.
pub(super) struct Types {
    pub(super) request: Option<MessageDescriptor>,
    pub(super) response: Option<MessageDescriptor>,
}

impl Types {
    /// What `--proto` says of `module` and `method`; the answer's type of a known method need not be said.
    pub(super) fn of(args: &DrpcArgs, module: i32, method: i32) -> Result<Option<Self>, Failure> {
        let Some(types) = &args.proto else {
            return Ok(None);
        };
        let (request, response) = match types.split_once(':') {
            Some((request, response)) => (request, Some(response)),
            None => (types.as_str(), None),
        };
        let known = known()?;
        let pools = match args.described() {
            Origin::Reflection => vec![known],
            origin => origin.pool()?.into_iter().chain([known]).collect(),
        };
        let response = response.or_else(|| answer(module, method));
        Ok(Some(Self {
            request: named(&pools, request)?,
            response: response.map_or(Ok(None), |name| named(&pools, name))?,
        }))
    }
}

/// What a known method answers with.
fn answer(module: i32, method: i32) -> Option<&'static str> {
    match (module, method) {
        (test::MODULE, test::GREETING) => Some("drpc.HelloResponse"),
        (sec_agent::MODULE, sec_agent::REQUEST_CREDS) => Some("drpc.GetCredResp"),
        _ => None,
    }
}

fn known() -> Result<DescriptorPool, SchemaError> {
    let file = protox::file::File::from_source("known.proto", KNOWN);
    let file = file.map_err(|error| SchemaError::Proto(Box::new(error)))?;
    let mut pool = DescriptorPool::new();
    let added = pool.add_file_descriptor_proto(file.into());
    added.map_err(|source| SchemaError::Inconsistent {
        missing: Vec::new(),
        source,
    })?;
    Ok(pool)
}

/// The type of that name, with its package or, where only one has it, without. An empty name is no type.
fn named(pools: &[DescriptorPool], name: &str) -> Result<Option<MessageDescriptor>, DrpcUsage> {
    if name.is_empty() {
        return Ok(None);
    }
    let whole = pools.iter().find_map(|pool| pool.get_message_by_name(name));
    let found = whole.or_else(|| {
        pools.iter().find_map(|pool| {
            let mut short = pool.all_messages().filter(|message| message.name() == name);
            let found = short.next();
            found.filter(|_| short.next().is_none())
        })
    });
    found
        .map(Some)
        .ok_or_else(|| DrpcUsage::NoType(name.to_owned()))
}

/// The names of the known types.
pub(super) fn names() -> Vec<String> {
    let pool = known().unwrap_or_default();
    pool.all_messages()
        .map(|message| message.full_name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_have_short_names_and_unknown_ones_are_errors() {
        let pools = [known().unwrap()];
        let hello = named(&pools, "Hello").unwrap().unwrap();
        assert_eq!(hello.full_name(), "drpc.Hello");
        assert!(named(&pools, "drpc.GetCredResp").unwrap().is_some());
        assert!(named(&pools, "").unwrap().is_none());
        let error = named(&pools, "Nowhere").unwrap_err();
        assert!(error.hint().unwrap().contains("drpc.Hello"), "{error}");
    }
}
