//! Fields of messages that hold indices of descriptors, found by name and filled or read by reflection. Pure.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::near::{near, question};

/// Why no index can be in a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexFieldError {
    /// The message has no field of that name.
    #[error("{message} has no field `{field}`")]
    NoField {
        /// Full name of the message type.
        message: String,
        /// The name as given.
        field: String,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// An index is a number.
    #[error("`{field}` of {message} is no integer, and an index is one")]
    NotAnInteger {
        /// Full name of the message type.
        message: String,
        /// The name as given.
        field: String,
    },
    /// Only a single message can be entered to put an index into it.
    #[error("`{field}` of {message} is no single message that holds fields")]
    NotAMessage {
        /// Full name of the message type.
        message: String,
        /// The part of the name.
        field: String,
    },
}

impl IndexFieldError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoField { near, .. } => question(near),
            Self::NotAnInteger { .. } | Self::NotAMessage { .. } => None,
        }
    }
}

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An index is put into it: the way there is through single messages.
    Put,
    /// Indices are read from it, also from messages in lists.
    Read,
}

/// An integer field, or a list of integers, perhaps inside other messages.
#[derive(Debug, Clone)]
pub struct IndexField {
    name: String,
    way: Vec<FieldDescriptor>,
    last: FieldDescriptor,
}

impl IndexField {
    /// Finds `name` in `message`; a dot leads into a field that is a message.
    ///
    /// # Errors
    /// There is no such field, or it holds no index.
    pub fn find(
        message: &MessageDescriptor,
        name: &str,
        purpose: Purpose,
    ) -> Result<Self, IndexFieldError> {
        let mut way = Vec::new();
        let mut within = message.clone();
        let mut rest = name;
        while let Some((first, more)) = rest.split_once('.') {
            let field = field(&within, first)?;
            let may_enter = !field.is_map() && (purpose == Purpose::Read || !field.is_list());
            within = match field.kind() {
                Kind::Message(inner) if may_enter => inner,
                _ => {
                    return Err(IndexFieldError::NotAMessage {
                        message: within.full_name().to_owned(),
                        field: first.to_owned(),
                    });
                }
            };
            way.push(field);
            rest = more;
        }
        let last = field(&within, rest)?;
        if last.is_map() || integer(&last.kind(), 0).is_none() {
            return Err(IndexFieldError::NotAnInteger {
                message: within.full_name().to_owned(),
                field: rest.to_owned(),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            way,
            last,
        })
    }

    /// The name by which it was found.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts an index into the field; behind those that are there, if it is a list.
    pub fn put(&self, message: &mut DynamicMessage, index: u32) {
        let Some(value) = integer(&self.last.kind(), index) else {
            return;
        };
        put(message, &self.way, &self.last, value);
    }

    /// The indices in the field, in order; none where a field that knows its absence is absent.
    pub fn indices(&self, message: &DynamicMessage) -> Vec<u32> {
        let mut indices = Vec::new();
        read(message, &self.way, &self.last, &mut indices);
        indices
    }
}

fn field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, IndexFieldError> {
    let by_name = message.get_field_by_name(name);
    let found = by_name.or_else(|| message.get_field_by_json_name(name));
    found.ok_or_else(|| {
        let offered: Vec<FieldDescriptor> = message.fields().collect();
        IndexFieldError::NoField {
            message: message.full_name().to_owned(),
            field: name.to_owned(),
            near: near(name, offered.iter().map(FieldDescriptor::name)),
        }
    })
}

fn put(
    message: &mut DynamicMessage,
    way: &[FieldDescriptor],
    last: &FieldDescriptor,
    value: Value,
) {
    if let Some((first, way)) = way.split_first() {
        if let Value::Message(inner) = message.get_field_mut(first) {
            put(inner, way, last, value);
        }
        return;
    }
    match message.get_field_mut(last) {
        Value::List(list) => list.push(value),
        single => *single = value,
    }
}

fn read(
    message: &DynamicMessage,
    way: &[FieldDescriptor],
    last: &FieldDescriptor,
    indices: &mut Vec<u32>,
) {
    let next = way.first().unwrap_or(last);
    if next.supports_presence() && !message.has_field(next) {
        return;
    }
    let value = message.get_field(next);
    let values = match value.as_ref() {
        Value::List(list) => list.as_slice(),
        single => std::slice::from_ref(single),
    };
    for value in values {
        match (way.split_first(), value) {
            (Some((_, way)), Value::Message(inner)) => read(inner, way, last, indices),
            (Some(_), _) => {}
            (None, value) => indices.extend(number(value)),
        }
    }
}

/// The index as a value of this kind; `None` for what is no integer.
fn integer(kind: &Kind, index: u32) -> Option<Value> {
    Some(match kind {
        Kind::Uint32 | Kind::Fixed32 => Value::U32(index),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(index.into()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(index.cast_signed()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(index.into()),
        _ => return None,
    })
}

/// The index that a value is. One that is out of range is one that nobody has.
fn number(value: &Value) -> Option<u32> {
    Some(match value {
        Value::U32(number) => *number,
        Value::I32(number) => number.cast_unsigned(),
        Value::U64(number) => u32::try_from(*number).unwrap_or(u32::MAX),
        Value::I64(number) => u32::try_from(*number).unwrap_or(u32::MAX),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;

    fn message(name: &str) -> MessageDescriptor {
        let set = crate::diag::FILE_DESCRIPTOR_SET;
        let pool = DescriptorPool::decode(set).unwrap();
        pool.get_message_by_name(&format!("nigh.diag.v1.{name}"))
            .unwrap()
    }

    fn find(message_name: &str, name: &str) -> Result<IndexField, IndexFieldError> {
        IndexField::find(&message(message_name), name, Purpose::Put)
    }

    #[test]
    fn an_index_goes_into_a_number_a_list_or_an_inner_message() {
        let mut request = DynamicMessage::new(message("StatRequest"));
        let fds = find("StatRequest", "fds").unwrap();
        assert!(fds.indices(&request).is_empty());
        fds.put(&mut request, 0);
        fds.put(&mut request, 7);
        assert_eq!(fds.indices(&request), [0, 7]);

        let single = find("OpenFileReply", "fd").unwrap();
        let mut reply = DynamicMessage::new(message("OpenFileReply"));
        single.put(&mut reply, 9);
        assert_eq!(single.indices(&reply), [9]);

        // `seconds` is a 64-bit number in a message, and absent with it.
        let inner = find("EchoRequest", "delay.seconds").unwrap();
        let mut request = DynamicMessage::new(message("EchoRequest"));
        assert!(inner.indices(&request).is_empty());
        inner.put(&mut request, 5);
        assert_eq!(inner.indices(&request), [5]);
        let optional = find("EchoRequest", "replyBytes").unwrap();
        assert!(optional.indices(&request).is_empty());
    }

    #[test]
    fn indices_are_read_from_all_messages_of_a_list() {
        let field = IndexField::find(&message("StatReply"), "fds.fd", Purpose::Read).unwrap();
        let mut reply = DynamicMessage::new(message("StatReply"));
        let list = reply.get_field_by_name_mut("fds").unwrap();
        let infos = [3, 1].map(|index| {
            let mut info = DynamicMessage::new(message("FdInfo"));
            info.set_field_by_name("fd", Value::U32(index));
            Value::Message(info)
        });
        *list = Value::List(infos.into());
        assert_eq!(field.indices(&reply), [3, 1]);
    }

    #[test]
    fn what_holds_no_index_is_named() {
        let text = |name| find("EchoRequest", name).unwrap_err();
        assert_eq!(
            text("txet").to_string(),
            "nigh.diag.v1.EchoRequest has no field `txet`"
        );
        assert_eq!(text("txet").hint().unwrap(), "did you mean text?");
        assert!(text("text").to_string().contains("no integer"));
        assert!(text("text.x").to_string().contains("no single message"));
        let list = find("StatReply", "fds.fd").unwrap_err();
        assert!(list.to_string().contains("no single message"));
        let map = find("CountersReply", "handlers_by_method").unwrap_err();
        assert!(map.to_string().contains("no integer"));
    }
}
