//! One file per command of `nigh`.

pub(crate) mod call;
pub(crate) mod demo;
pub(crate) mod drpc;
pub(crate) mod handover;
pub(crate) mod ls;
pub(crate) mod manual;
pub(crate) mod serve;
pub(crate) mod tap;
pub(crate) mod who;
