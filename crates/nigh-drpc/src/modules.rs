//! DAOS's own modules and methods, as named constants and as tables to look names up in.
//!
//! Ids are never reused. Retired ones are in the tables, so that an old caller's number still has a name.

/// Who serves a method in DAOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServedBy {
    /// `daos_agent`, on `daos_agent.sock`.
    Agent,
    /// `daos_server`, on `daos_server.sock`.
    Server,
    /// `daos_engine`, on `daos_engine_PID.sock`.
    Engine,
    /// Tests and examples.
    Test,
    /// Nobody: it is defined, or was once.
    Nobody,
}

/// A method's id and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodEntry {
    /// The method's number, 100 times its module's plus a little by convention.
    pub id: i32,
    /// The name, in capitals.
    pub name: &'static str,
    /// Who answers it.
    pub served_by: ServedBy,
}

/// A module's id, name and methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleEntry {
    /// The module's number.
    pub id: i32,
    /// The name, in capitals.
    pub name: &'static str,
    /// The methods by number.
    pub methods: &'static [MethodEntry],
}

impl ModuleEntry {
    /// The method of that number, or of that name in any case.
    #[must_use]
    pub fn method(&self, text: &str) -> Option<&'static MethodEntry> {
        let id: Option<i32> = text.parse().ok();
        let found =
            |method: &&MethodEntry| Some(method.id) == id || method.name.eq_ignore_ascii_case(text);
        self.methods.iter().find(found)
    }
}

/// The module of that number, or of that name in any case.
#[must_use]
pub fn module(text: &str) -> Option<&'static ModuleEntry> {
    let id: Option<i32> = text.parse().ok();
    let found =
        |module: &&ModuleEntry| Some(module.id) == id || module.name.eq_ignore_ascii_case(text);
    MODULES.iter().find(found)
}

/// The names of a module and method, as far as DAOS has them: for people.
#[must_use]
pub fn names(module: i32, method: i32) -> (Option<&'static str>, Option<&'static str>) {
    let Some(entry) = MODULES.iter().find(|entry| entry.id == module) else {
        return (None, None);
    };
    let found = entry.methods.iter().find(|entry| entry.id == method);
    (Some(entry.name), found.map(|entry| entry.name))
}

macro_rules! modules {
    ($($(#[$doc:meta])* $module:ident $name:ident = $id:literal {
        $($method:ident = $number:literal $by:ident,)*
    })*) => {
        $(
            $(#[$doc])*
            pub mod $module {
                /// The module's id.
                pub const MODULE: i32 = $id;
                $(
                    #[doc = concat!("Method ", $number, " of module ", $id, ".")]
                    pub const $method: i32 = $number;
                )*
            }
        )*

        /// All modules by number.
        pub const MODULES: &[ModuleEntry] = &[$(ModuleEntry {
            id: $id,
            name: stringify!($name),
            methods: &[$(MethodEntry {
                id: $number,
                name: stringify!($method),
                served_by: ServedBy::$by,
            },)*],
        },)*];
    };
}

modules! {
    /// Tests and examples.
    test TEST = 0 {
        GREETING = 0 Test,
    }
    /// Credentials, from the agent.
    sec_agent SEC_AGENT = 1 {
        REQUEST_CREDS = 101 Agent,
    }
    /// Management, of the agent and of the engine.
    mgmt MGMT = 2 {
        KILL_RANK = 201 Nobody,
        SET_RANK = 202 Engine,
        CREATE_MS = 203 Nobody,
        START_MS = 204 Nobody,
        JOIN = 205 Nobody,
        GET_ATTACH_INFO = 206 Agent,
        POOL_CREATE = 207 Engine,
        POOL_DESTROY = 208 Engine,
        SET_UP = 209 Engine,
        BIO_HEALTH_QUERY = 210 Engine,
        SMD_LIST_DEVS = 211 Engine,
        SMD_LIST_POOLS = 212 Engine,
        POOL_GET_ACL = 213 Engine,
        LIST_POOLS = 214 Nobody,
        POOL_OVERWRITE_ACL = 215 Engine,
        POOL_UPDATE_ACL = 216 Engine,
        POOL_DELETE_ACL = 217 Engine,
        PREP_SHUTDOWN = 218 Engine,
        DEV_STATE_QUERY = 219 Nobody,
        DEV_SET_FAULTY = 220 Engine,
        DEV_REPLACE = 221 Engine,
        LIST_CONTAINERS = 222 Engine,
        POOL_QUERY = 223 Engine,
        POOL_SET_PROP = 224 Engine,
        PING_RANK = 225 Engine,
        POOL_REINT = 226 Engine,
        CONT_SET_OWNER = 227 Engine,
        POOL_EXCLUDE = 228 Engine,
        POOL_EXTEND = 229 Engine,
        POOL_EVICT = 230 Engine,
        POOL_DRAIN = 231 Engine,
        GROUP_UPDATE = 232 Engine,
        NOTIFY_EXIT = 233 Agent,
        DEV_IDENTIFY = 234 Nobody,
        NOTIFY_POOL_CONNECT = 235 Agent,
        NOTIFY_POOL_DISCONNECT = 236 Agent,
        POOL_GET_PROP = 237 Engine,
        SET_LOG_MASKS = 238 Engine,
        POOL_UPGRADE = 239 Engine,
        POOL_QUERY_TARGETS = 240 Engine,
        LED_MANAGE = 241 Engine,
        CHK_START = 242 Engine,
        CHK_STOP = 243 Engine,
        CHK_QUERY = 244 Engine,
        CHK_PROP = 245 Engine,
        CHK_ACT = 246 Engine,
        SETUP_CLIENT_TELEM = 247 Agent,
        GROUP_STATUS_GET = 248 Engine,
        CHK_SET_POLICY = 249 Engine,
        POOL_REBUILD_START = 250 Engine,
        POOL_REBUILD_STOP = 251 Engine,
        POOL_SELF_HEAL_EVAL = 252 Engine,
    }
    /// What the engine asks of the server.
    srv SRV = 3 {
        NOTIFY_READY = 301 Server,
        BIO_ERR = 302 Nobody,
        GET_POOL_SVC = 303 Server,
        CLUSTER_EVENT = 304 Server,
        POOL_FIND_BYLABEL = 305 Server,
        CHK_LIST_POOL = 306 Server,
        CHK_REG_POOL = 307 Server,
        CHK_DEREG_POOL = 308 Server,
        CHK_REPORT = 309 Server,
        LIST_POOLS = 310 Server,
        GET_SYS_PROPS = 311 Server,
    }
    /// Verifying credentials, at the server.
    sec SEC = 4 {
        VALIDATE_CREDS = 401 Server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_to_the_same_method() {
        let mgmt = module("mgmt").unwrap();
        assert_eq!(mgmt.id, mgmt::MODULE);
        assert_eq!(module("2"), Some(mgmt));
        assert_eq!(mgmt.method("pool_create").unwrap().id, mgmt::POOL_CREATE);
        assert_eq!(mgmt.method("207"), mgmt.method("POOL_CREATE"));
        assert_eq!(module("nonsense"), None);
        assert_eq!(mgmt.method("299"), None);
        assert_eq!(names(1, 101), (Some("SEC_AGENT"), Some("REQUEST_CREDS")));
        assert_eq!(names(1, 1), (Some("SEC_AGENT"), None));
        assert_eq!(names(77, 1), (None, None));
    }

    #[test]
    fn ids_ascend_and_follow_the_convention() {
        for module in MODULES {
            assert!(module.methods.is_sorted_by(|a, b| a.id < b.id));
            let low = module.id * 100;
            for method in module.methods {
                assert!((low..low + 100).contains(&method.id), "{method:?}");
            }
        }
        let count: usize = MODULES.iter().map(|module| module.methods.len()).sum();
        assert_eq!(count, 1 + 1 + 52 + 11 + 1);
    }
}
