//! One file per command of `nigh`.

pub(crate) mod bench;
pub(crate) mod call;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod drpc;
pub(crate) mod handover;
pub(crate) mod ls;
pub(crate) mod manual;
pub(crate) mod message;
pub(crate) mod peers;
pub(crate) mod received;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod tap;
pub(crate) mod who;
