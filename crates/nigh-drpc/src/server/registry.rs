//! Which modules and methods a server has: any ids, each once, each with a name.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::handler::{Answer, Failure, Request};

/// A handler's answer on its way.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;
type Handle = dyn Fn(Request) -> Answering + Send + Sync;

/// A method: its name and what it does.
#[derive(Clone)]
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) handle: Arc<Handle>,
}

/// A module: an id, a name, and methods.
pub struct Module {
    id: i32,
    name: String,
    methods: HashMap<i32, Method>,
    duplicate: Option<i32>,
    exchanges_descriptors: bool,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut methods: Vec<_> = self.methods.iter().collect();
        methods.sort_by_key(|(id, _)| **id);
        let names = methods.iter().map(|(id, method)| (*id, &method.name));
        f.debug_struct("Module")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("methods", &names.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Module {
    /// A module without methods. Any id will do; 0 to 4 are DAOS's own.
    #[must_use]
    pub fn new(id: i32, name: impl Into<String>) -> Self {
        Self {
            id,
            name: name.into(),
            methods: HashMap::new(),
            duplicate: None,
            exchanges_descriptors: false,
        }
    }

    /// Adds a method. `handler` gets each call of it that policies allow; it answers with bytes (or an [`Answer`]
    /// with descriptors), or fails.
    ///
    /// It is polled on the connection's task first, so what it does before its first pause should be short.
    #[must_use]
    pub fn method<H, F, A>(mut self, id: i32, name: impl Into<String>, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A, Failure>> + Send + 'static,
        A: Into<Answer>,
    {
        let handle = move |request| -> Answering {
            let answering = handler(request);
            Box::pin(async move { answering.await.map(Into::into) })
        };
        let method = Method {
            name: name.into(),
            handle: Arc::new(handle),
        };
        if self.methods.insert(id, method).is_some() {
            self.duplicate = Some(id);
        }
        self
    }

    /// Lets calls of this module carry open files, both ways. A server without such a module agrees on none with
    /// anybody, and its listeners refuse them in the kernel (Linux 6.16).
    #[must_use]
    pub fn exchange_descriptors(mut self) -> Self {
        self.exchanges_descriptors = true;
        self
    }

    /// Whether calls of this module may carry open files.
    #[must_use]
    pub fn exchanges_descriptors(&self) -> bool {
        self.exchanges_descriptors
    }

    /// The module's id.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The module's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ids and names of the methods, in no order.
    pub fn methods(&self) -> impl Iterator<Item = (i32, &str)> {
        self.methods
            .iter()
            .map(|(id, method)| (*id, method.name.as_str()))
    }

    pub(crate) fn find(&self, method: i32) -> Option<&Method> {
        self.methods.get(&method)
    }
}

/// Two things have the same id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The id of another module.
    #[error("register module {name:?}: id {id} is that of {other:?}")]
    DuplicateModule {
        /// The id.
        id: i32,
        /// The module to be registered.
        name: String,
        /// The module that has the id.
        other: String,
    },
    /// The id of another method of the same module.
    #[error("register module {module:?}: two methods have id {id}")]
    DuplicateMethod {
        /// The id.
        id: i32,
        /// The module's name.
        module: String,
    },
}

/// The modules of a server.
#[derive(Debug, Default)]
pub struct Modules {
    modules: HashMap<i32, Module>,
}

impl Modules {
    /// No modules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a module.
    ///
    /// # Errors
    /// When its id, or one of its methods' ids, is taken; the other modules stay.
    pub fn register(&mut self, module: Module) -> Result<(), RegisterError> {
        if let Some(id) = module.duplicate {
            let module = module.name;
            return Err(RegisterError::DuplicateMethod { id, module });
        }
        if let Some(other) = self.modules.get(&module.id) {
            return Err(RegisterError::DuplicateModule {
                id: module.id,
                name: module.name,
                other: other.name.clone(),
            });
        }
        self.modules.insert(module.id, module);
        Ok(())
    }

    /// The module of that id.
    #[must_use]
    pub fn get(&self, id: i32) -> Option<&Module> {
        self.modules.get(&id)
    }

    /// All modules, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Module> {
        self.modules.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn nothing(_: Request) -> Result<Vec<u8>, Failure> {
        Ok(Vec::new())
    }

    #[test]
    fn any_id_will_do_once() {
        let mut modules = Modules::new();
        for id in [0, 1, 77, i32::MAX, -1, i32::MIN] {
            let module = Module::new(id, format!("m{id}")).method(id, "same", nothing);
            modules.register(module).unwrap();
        }
        assert_eq!(modules.get(i32::MIN).unwrap().name(), "m-2147483648");
        let error = modules.register(Module::new(77, "late")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "register module \"late\": id 77 is that of \"m77\""
        );
        let twice = Module::new(5, "twice")
            .method(1, "one", nothing)
            .method(1, "uno", nothing);
        assert_eq!(
            modules.register(twice).unwrap_err().to_string(),
            "register module \"twice\": two methods have id 1"
        );
        assert_eq!(modules.iter().count(), 6);
    }
}
