//! [`bind_unix_socket`].

use super::{BACKLOG, at, clamp};
use crate::net::unix_address::{is_abstract, unix_address};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Who may connect, unless said otherwise: the owner.
const MODE: u32 = 0o600;

/// How [`bind_unix_socket`] makes its socket.
///
/// ```
/// use ringloop::net::{BindUnixOptions, bind_unix_socket};
///
/// # let path = std::env::temp_dir().join(format!("ringloop-bind-doc-{}", std::process::id()));
/// let socket = bind_unix_socket(&path, &BindUnixOptions::new().mode(0o660))?;
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BindUnixOptions {
    mode: u32,
    backlog: u32,
}

impl Default for BindUnixOptions {
    fn default() -> BindUnixOptions {
        BindUnixOptions::new()
    }
}

impl BindUnixOptions {
    /// Mode 0600, and a backlog of 1024.
    pub fn new() -> BindUnixOptions {
        BindUnixOptions { mode: MODE, backlog: BACKLOG }
    }

    /// The permissions of the socket's file: whoever may write to it may connect. 0600 by default:
    /// the owner alone.
    pub fn mode(mut self, mode: u32) -> BindUnixOptions {
        self.mode = mode;
        self
    }

    /// Connections that the kernel keeps until they are accepted. 1024 by default.
    pub fn backlog(mut self, connections: u32) -> BindUnixOptions {
        self.backlog = connections;
        self
    }
}

/// Listens at a path, for [`UnixListener::from_std`](crate::net::UnixListener::from_std) or
/// [`TcpServerBuilder::add_unix_socket`](crate::net::TcpServerBuilder::add_unix_socket).
///
/// A socket that nobody listens at any more is replaced. To find that out, it is connected to: a
/// server that does listen there sees a connection that is closed at once. A path that begins with a
/// zero byte is a name in the abstract namespace, which has no file and no mode.
///
/// # Errors
///
/// `AddrInUse` if somebody listens there, `AlreadyExists` if there is a file that is not a socket:
/// neither is touched. What the operating system reports, with the path (see
/// [`net`](crate::net#errors)).
pub fn bind_unix_socket(
    path: impl AsRef<Path>,
    options: &BindUnixOptions,
) -> io::Result<UnixListener> {
    let path = path.as_ref();
    bind(path, options).map_err(|error| at(format_args!("{path:?}"), error))
}

fn bind(path: &Path, options: &BindUnixOptions) -> io::Result<UnixListener> {
    let address = unix_address(path)?;
    let has_file = !is_abstract(path);
    if has_file {
        remove_stale(path, &address)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    if has_file {
        // The file is made with the mode of the socket, so that it is at no time wider.
        let socket = fs::File::from(std::os::fd::OwnedFd::from(socket.try_clone()?));
        socket.set_permissions(fs::Permissions::from_mode(options.mode))?;
    }
    socket.bind(&address)?;
    if has_file {
        // What the process's mask has taken away.
        fs::set_permissions(path, fs::Permissions::from_mode(options.mode))?;
    }
    socket.listen(clamp(options.backlog))?;
    Ok(socket.into())
}

/// Removes a socket's file that a server has left behind.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let message = "there is a file that is not a socket, and is left alone";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match socket.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already")),
    }
}
