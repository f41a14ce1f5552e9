//! The status of a response, and its number on the wire.

use std::fmt;

/// How a call ended. Numbers that are not in the table pass through unchanged. drpc §5.6
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// 0: the handler answered.
    Success,
    /// 1: sent off without waiting; no server sends it.
    Submitted,
    /// 2: the handler failed, or the caller may not call it.
    Failure,
    /// 3: no such module here.
    UnknownModule,
    /// 4: the module has no such method.
    UnknownMethod,
    /// 5: the call was not a protobuf message.
    FailedUnmarshalCall,
    /// 6: the body was not what the method takes.
    FailedUnmarshalPayload,
    /// 7: the answer could not be put into a message.
    FailedMarshal,
    /// Any other number.
    Other(i32),
}

impl From<i32> for Status {
    fn from(number: i32) -> Self {
        match number {
            0 => Self::Success,
            1 => Self::Submitted,
            2 => Self::Failure,
            3 => Self::UnknownModule,
            4 => Self::UnknownMethod,
            5 => Self::FailedUnmarshalCall,
            6 => Self::FailedUnmarshalPayload,
            7 => Self::FailedMarshal,
            other => Self::Other(other),
        }
    }
}

impl From<Status> for i32 {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => 0,
            Status::Submitted => 1,
            Status::Failure => 2,
            Status::UnknownModule => 3,
            Status::UnknownMethod => 4,
            Status::FailedUnmarshalCall => 5,
            Status::FailedUnmarshalPayload => 6,
            Status::FailedMarshal => 7,
            Status::Other(other) => other,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "SUCCESS",
            Self::Submitted => "SUBMITTED",
            Self::Failure => "FAILURE",
            Self::UnknownModule => "UNKNOWN_MODULE",
            Self::UnknownMethod => "UNKNOWN_METHOD",
            Self::FailedUnmarshalCall => "FAILED_UNMARSHAL_CALL",
            Self::FailedUnmarshalPayload => "FAILED_UNMARSHAL_PAYLOAD",
            Self::FailedMarshal => "FAILED_MARSHAL",
            Self::Other(number) => return write!(f, "status {number}"),
        })
    }
}
