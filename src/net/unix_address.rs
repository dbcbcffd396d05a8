//! Addresses of Unix sockets.

use socket2::SockAddr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether a path is a name in the abstract namespace, which has no file.
pub(super) fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(b"\0")
}

/// The address of a path, or an abstract name.
pub(super) fn unix_address(path: &Path) -> io::Result<SockAddr> {
    if !is_abstract(path) && path.as_os_str().as_bytes().contains(&0) {
        // The kernel would take it for what is before that.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path has no zero byte in it"));
    }
    SockAddr::unix(path)
}
