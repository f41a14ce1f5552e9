//! The sorting of descriptors, with scripted sockets: what the kernel does on a bad day.
