//! Starting a member: its files, its state, its threads.

mod boot;
#[cfg(test)]
mod boot_tests;
mod checks;
mod datadir;
mod error;
mod join;
mod launch;
mod listen;
mod notify;
mod observe;
mod options;
mod program;
mod resolve;

pub use boot::{Boot, BootOptions, Observers, boot};
pub use datadir::{DataDir, os_text, path_error};
pub use error::StartError;
pub use launch::{LaunchOptions, Running, launch};
pub use program::run;

use cluster::Version;

/// The release of etcd this program is: what clients, peers and tools read as its version.
pub const SERVER_VERSION: &str = "3.7.3";

/// [`SERVER_VERSION`] to compare with.
pub fn server_version() -> Version {
    Version::new(3, 7, 3)
}
