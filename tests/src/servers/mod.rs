//! Servers that a test starts for itself, each on a loopback port and in a folder of its own, and ends with itself.

pub mod redis;
