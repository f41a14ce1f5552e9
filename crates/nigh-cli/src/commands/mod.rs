//! One file per command of `nigh`.

pub(crate) mod call;
pub(crate) mod ls;
pub(crate) mod manual;
