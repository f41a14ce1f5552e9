//! `posix_spawn`: a child without a copy of this process's memory, and with no descriptor that it was not given.
//!
//! Trap: whatever runs code of ours between fork and exec (`pre_exec`) takes time with the size of this process: tens of
//! milliseconds for half a GiB. So all there is to do is said in advance.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_char, c_int, posix_spawn_file_actions_t, posix_spawnattr_t};
use rustix::io::Errno;
use rustix::process::Pid;

use super::signal;

/// What to start, and with what.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) program: CString,
    /// The first is the program's name.
    pub(crate) arguments: Vec<CString>,
    /// `NAME=value` each.
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: Option<CString>,
    /// What the child has under which number. No number of the left is one of the right, and those are in order.
    pub(crate) files: Vec<(OwnedFd, RawFd)>,
    /// Numbers between those, which are closed in the child.
    pub(crate) closed: Range<RawFd>,
    /// Everything from this number on is closed in the child.
    pub(crate) first_closed: RawFd,
}

/// How the rest is closed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Closing {
    /// By the C library, in the child: glibc from 2.34 on.
    ByLibrary(CloseFrom),
    /// One by one, each that is open now: what another thread opens meanwhile without close-on-exec is inherited.
    ByList,
}

/// `posix_spawn_file_actions_addclosefrom_np`.
type CloseFrom = unsafe extern "C" fn(*mut posix_spawn_file_actions_t, c_int) -> c_int;

impl Closing {
    /// The best that this C library has.
    pub(crate) fn best() -> Self {
        let name = c"posix_spawn_file_actions_addclosefrom_np";
        // SAFETY: the name is a C string; nothing is loaded.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        if found.is_null() {
            return Self::ByList;
        }
        // SAFETY: the symbol of this name is a function of this type in every C library that has it.
        Self::ByLibrary(unsafe { std::mem::transmute::<*mut libc::c_void, CloseFrom>(found) })
    }
}

/// Starts it; returns when it runs the program, or cannot. The pid is the caller's to wait for.
pub(crate) fn start(plan: &Plan, closing: Closing) -> Result<Pid, io::Error> {
    let mut actions = Actions::new()?;
    if let Some(directory) = &plan.directory {
        actions.change_directory(directory)?;
    }
    for (file, number) in &plan.files {
        actions.give(file, *number)?;
    }
    for number in plan.closed.clone() {
        actions.close(number)?;
    }
    actions.close_from(plan.first_closed, closing)?;
    let attributes = Attributes::new()?;
    let (arguments, environment) = (pointers(&plan.arguments), pointers(&plan.environment));
    let mut pid = 0;
    // SAFETY: the program, and each argument and variable, is a C string that `plan` keeps; both lists end with null.
    // Actions and attributes are initialised. All of them outlive the call, which changes none of them.
    let outcome = unsafe {
        libc::posix_spawnp(
            &raw mut pid,
            plan.program.as_ptr(),
            actions.as_ptr(),
            attributes.as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    done(outcome)?;
    Pid::from_raw(pid).ok_or_else(|| Errno::SRCH.into())
}

/// As C has lists of strings: pointers, and null at the end.
fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    let pointers = strings.iter().map(|string| string.as_ptr().cast_mut());
    pointers.chain([ptr::null_mut()]).collect()
}

/// These functions return the error number.
fn done(outcome: c_int) -> Result<(), io::Error> {
    match outcome {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// What the child does before it becomes the program.
struct Actions(Box<posix_spawn_file_actions_t>);

impl Actions {
    fn new() -> Result<Self, io::Error> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: it initialises what it is given.
        done(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: initialised by the line above, which succeeded.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn as_ptr(&self) -> *const posix_spawn_file_actions_t {
        &raw const *self.0
    }

    fn change_directory(&mut self, to: &CStr) -> Result<(), io::Error> {
        // SAFETY: initialised; the C library copies the string.
        done(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut *self.0, to.as_ptr()) })
    }

    /// The copy is not close-on-exec.
    fn give(&mut self, file: &OwnedFd, number: RawFd) -> Result<(), io::Error> {
        let file = file.as_raw_fd();
        // SAFETY: initialised; the numbers mean something in the child only.
        done(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut *self.0, file, number) })
    }

    fn close_from(&mut self, first: RawFd, closing: Closing) -> Result<(), io::Error> {
        match closing {
            // SAFETY: initialised; the function is the one of that name.
            Closing::ByLibrary(add) => done(unsafe { add(&raw mut *self.0, first) }),
            Closing::ByList => {
                for entry in fs::read_dir("/proc/self/fd")? {
                    let name = entry?.file_name();
                    let number = name.to_str().and_then(|name| name.parse().ok());
                    if let Some(number) = number.filter(|number| *number >= first) {
                        self.close(number)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// That it is closed already is no error to any C library.
    fn close(&mut self, number: RawFd) -> Result<(), io::Error> {
        // SAFETY: initialised; the number means something in the child only.
        done(unsafe { libc::posix_spawn_file_actions_addclose(&raw mut *self.0, number) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used any more.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut *self.0) };
    }
}

/// What is not inherited beside descriptors: blocked signals, and that Rust programs ignore broken pipes.
struct Attributes(Box<posix_spawnattr_t>);

impl Attributes {
    fn new() -> Result<Self, io::Error> {
        let mut attributes = Box::new(MaybeUninit::uninit());
        // SAFETY: it initialises what it is given.
        done(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised by the line above, which succeeded.
        let mut this = Self(unsafe { attributes.assume_init() });
        let (none, pipe) = (signal::empty(), signal::only_broken_pipe());
        // SAFETY: both are initialised; the set is copied.
        done(unsafe { libc::posix_spawnattr_setsigmask(&raw mut *this.0, &raw const none) })?;
        // SAFETY: as above.
        done(unsafe { libc::posix_spawnattr_setsigdefault(&raw mut *this.0, &raw const pipe) })?;
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let flags = flags.try_into().map_err(|_| Errno::INVAL)?;
        // SAFETY: initialised.
        done(unsafe { libc::posix_spawnattr_setflags(&raw mut *this.0, flags) })?;
        Ok(this)
    }

    fn as_ptr(&self) -> *const posix_spawnattr_t {
        &raw const *self.0
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used any more.
        unsafe { libc::posix_spawnattr_destroy(&raw mut *self.0) };
    }
}
