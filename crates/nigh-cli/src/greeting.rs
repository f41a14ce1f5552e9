//! The dRPC modules of `nigh serve`: DAOS's greeting, and who the caller is.

use nigh_drpc::modules::test;
use nigh_drpc::{Answer, Failure, Module, Modules, RegisterError, Request};
use prost::Message;

/// The module of this project's own methods; DAOS has 0 to 4.
pub const OWN_MODULE: i32 = 1000;
/// Its method that says who calls, as a [`HelloResponse`].
pub const WHO_AM_I: i32 = 100_001;

/// Its method that answers with the descriptors that it got, as a [`HelloResponse`] that counts them.
pub const DESCRIPTORS: i32 = 100_002;

/// What the greeting takes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hello {
    /// Whom to greet.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// What it answers.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HelloResponse {
    /// `Hello` and the name.
    #[prost(string, tag = "1")]
    pub greeting: String,
}

/// All modules.
///
/// # Errors
/// None: the ids differ.
pub fn modules() -> Result<Modules, RegisterError> {
    let mut modules = Modules::new();
    modules.register(Module::new(test::MODULE, "TEST").method(
        test::GREETING,
        "GREETING",
        greet,
    ))?;
    let own = Module::new(OWN_MODULE, "NIGH")
        .method(WHO_AM_I, "WHO_AM_I", who)
        .method(DESCRIPTORS, "DESCRIPTORS", descriptors)
        .exchange_descriptors();
    modules.register(own)?;
    Ok(modules)
}

async fn greet(request: Request) -> Result<Vec<u8>, Failure> {
    let Hello { name } = Hello::decode(request.body)?;
    let greeting = format!("Hello {name}");
    Ok(HelloResponse { greeting }.encode_to_vec())
}

async fn who(request: Request) -> Result<Vec<u8>, Failure> {
    let greeting = request.peer.with_names().to_string();
    Ok(HelloResponse { greeting }.encode_to_vec())
}

async fn descriptors(request: Request) -> Result<Answer, Failure> {
    let count = request.descriptors.len();
    let counted = HelloResponse {
        greeting: format!("{count} descriptors"),
    };
    Ok(Answer {
        body: counted.encode_to_vec().into(),
        descriptors: request.descriptors,
    })
}
