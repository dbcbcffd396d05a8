//! Sockets that listen: addresses, ports, paths.

use ringloop::net::{
    BindOptions, BindUnixOptions, Family, ResolveError, bind_sockets, bind_unix_socket, is_valid_ip,
};
use std::cell::Cell;
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::fs::Permissions;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn addresses(sockets: &[TcpListener]) -> Vec<SocketAddr> {
    sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringloop-bind-{}-{name}", std::process::id()))
}

fn bind_unix(path: impl AsRef<Path>) -> std::io::Result<UnixListener> {
    bind_unix_socket(path, &BindUnixOptions::new())
}

#[test]
fn all_addresses_of_a_name_get_the_same_port() {
    for host in ["", "localhost"] {
        let sockets = bind_sockets(host, 0, &BindOptions::new()).unwrap();
        let addresses = addresses(&sockets);
        assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
        assert_ne!(addresses[0].port(), 0);
        assert!(addresses.is_sorted_by_key(SocketAddr::is_ipv6), "{addresses:?}");
    }
}

#[test]
fn all_interfaces_are_both_families_apart() {
    let sockets = bind_sockets("", 0, &BindOptions::new()).unwrap();
    let addresses = addresses(&sockets);
    assert_eq!(addresses[0].ip(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(addresses.len(), if has_ipv6() { 2 } else { 1 });
    for (socket, address) in sockets.iter().zip(&addresses).skip(1) {
        assert_eq!(address.ip(), Ipv6Addr::UNSPECIFIED);
        assert!(socket2::SockRef::from(socket).only_v6().unwrap());
    }
    // Connections of IPv4 arrive at the first.
    drop(TcpStream::connect((Ipv4Addr::LOCALHOST, addresses[0].port())).unwrap());
    assert!(sockets[0].accept().is_ok());
}

#[test]
fn sockets_do_not_block_are_not_inherited_and_may_be_bound_again_at_once() {
    let [socket] = &bind_sockets("127.0.0.1", 0, &BindOptions::new()).unwrap()[..] else {
        panic!("one address, one socket")
    };
    // SAFETY: passes no memory.
    let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    let socket = socket2::SockRef::from(socket);
    assert!(socket.nonblocking().unwrap());
    assert!(socket.reuse_address().unwrap());
    assert!(!socket.reuse_port().unwrap());
}

#[test]
fn a_port_may_be_shared_if_all_say_so() {
    let options = BindOptions::new().reuse_port(true);
    let first = bind_sockets("127.0.0.1", 0, &options).unwrap();
    let port = first[0].local_addr().unwrap().port();
    let second = bind_sockets("127.0.0.1", port, &options).unwrap();
    assert_eq!(second[0].local_addr().unwrap().port(), port);
    let error = bind_sockets("127.0.0.1", port, &BindOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[test]
fn a_failure_closes_the_sockets_that_were_made_before() {
    if !has_ipv6() {
        return;
    }
    // The port is taken for the second family alone.
    let taken = bind_sockets("::", 0, &BindOptions::new()).unwrap();
    let port = taken[0].local_addr().unwrap().port();
    let error = bind_sockets("", port, &BindOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free for IPv4"));
}

#[test]
fn only_the_family_asked_for_is_bound() {
    let options = BindOptions::new().family(Family::V4);
    let sockets = bind_sockets("", 0, &options).unwrap();
    assert!(addresses(&sockets).iter().all(SocketAddr::is_ipv4));
    let error = bind_sockets("::1", 0, &options).unwrap_err();
    assert_eq!(ResolveError::of(&error).unwrap().host(), "::1");
}

#[test]
fn a_name_without_an_address_is_named() {
    let error = bind_sockets("an impossible name", 0, &BindOptions::new()).unwrap_err();
    let resolve = ResolveError::of(&error).unwrap();
    assert_eq!(resolve.host(), "an impossible name");
    assert!(!resolve.reason().is_empty());
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let error = bind_sockets("192.0.2.1", 0, &BindOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn the_backlog_is_what_was_asked_for() {
    let sockets = bind_sockets("127.0.0.1", 0, &BindOptions::new().backlog(2)).unwrap();
    let address = sockets[0].local_addr().unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    assert!(table.contains(&format!(":{:04X} 00000000:0000 0A", address.port())));
    // One more than the number waits; of those beyond, the kernel takes no notice.
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let patience = std::time::Duration::from_millis(20);
    let error = client.connect_timeout(&address.into(), patience).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(clients);
}

#[test]
fn only_literal_addresses_are_valid_ips() {
    for valid in ["4.4.4.4", "127.0.0.1", "::1", "2620:0:1cfe:face:b00c::3"] {
        assert!(is_valid_ip(valid), "{valid}");
    }
    for invalid in
        ["", " ", "\n", "\0", "www.google.com", "localhost", "4.4.4.4<", " 127.0.0.1", "1.2.3"]
    {
        assert!(!is_valid_ip(invalid), "{invalid:?}");
    }
}

#[test]
fn a_unix_socket_has_the_mode_asked_for_whatever_the_mask() {
    let path = temporary("mode");
    for mode in [0o600, 0o660, 0o777] {
        let listener = bind_unix_socket(&path, &BindUnixOptions::new().mode(mode)).unwrap();
        let permissions = std::fs::metadata(&path).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o7777, mode);
        drop(listener);
    }
    drop(bind_unix(&path).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(&path).unwrap();
}

thread_local! {
    /// The mode that a file of this thread's had when it was changed last.
    static MODE_BEFORE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Stands in for the C library's function of this name, in all of this program.
///
/// # Safety
///
/// As for that one: `path` is a string that ends with a zero.
// SAFETY: it has the signature of what it replaces, and does the same.
#[unsafe(no_mangle)]
unsafe extern "C" fn chmod(path: *const c_char, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's promise.
    let file = OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes());
    let metadata = std::fs::metadata(file);
    MODE_BEFORE.set(metadata.ok().map(|metadata| metadata.permissions().mode() & 0o7777));
    // SAFETY: the caller's promise.
    unsafe { libc::fchmodat(libc::AT_FDCWD, path, mode, 0) }
}

#[test]
fn a_unix_socket_is_at_no_time_open_to_more_than_its_mode_says() {
    let path = temporary("narrow");
    // Narrower than any usual mask makes it.
    let listener = bind_unix_socket(&path, &BindUnixOptions::new().mode(0)).unwrap();
    assert_eq!(MODE_BEFORE.get(), Some(0), "the mode before it was set by path");
    drop(listener);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_socket_that_nobody_listens_at_any_more_is_replaced() {
    let path = temporary("stale");
    drop(UnixListener::bind(&path).unwrap());
    let listener = bind_unix(&path).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"x").unwrap();
    listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_socket_that_somebody_listens_at_is_left_alone() {
    let path = temporary("live");
    let listener = UnixListener::bind(&path).unwrap();
    let error = bind_unix(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    drop(UnixStream::connect(&path).unwrap());
    drop(listener);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_socket_whose_backlog_is_full_is_left_alone() {
    let path = temporary("full");
    let listener = bind_unix_socket(&path, &BindUnixOptions::new().backlog(0)).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let error = bind_unix(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    drop((client, listener.accept().unwrap()));
    drop(UnixStream::connect(&path).expect("it is still there"));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_socket_that_may_not_be_connected_to_is_left_alone() {
    let directory = temporary("forbidden");
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
    let path = directory.join("socket");
    let listener = bind_unix_socket(&path, &BindUnixOptions::new().mode(0)).unwrap();
    // Of this thread, and for files only. A child would hold the descriptors of other tests.
    let bind_as_nobody = || {
        // Root may do anything.
        // SAFETY: passes no memory.
        unsafe { libc::setfsuid(65534) };
        bind_unix(&path)
    };
    let bound = thread::scope(|scope| scope.spawn(bind_as_nobody).join().unwrap());
    assert_eq!(bound.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(std::fs::exists(&path).unwrap());
    drop(listener);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_dir(&directory).unwrap();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let file = temporary("file");
    std::fs::write(&file, "precious").unwrap();
    let directory = temporary("directory");
    std::fs::create_dir(&directory).unwrap();
    let link = temporary("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &directory, &link] {
        let error = bind_unix(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let message = error.to_string();
        assert!(message.contains(path.to_str().unwrap()) && message.contains("not a socket"));
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    std::fs::remove_file(&link).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_dir(&directory).unwrap();
}

#[test]
fn a_path_that_cannot_be_is_named() {
    let error = bind_unix("/nonexistent/socket").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/nonexistent/socket"), "{error}");
    let long = format!("/tmp/{}", "x".repeat(200));
    assert!(bind_unix(&long).unwrap_err().to_string().contains("xxx"));
}

#[test]
fn an_abstract_name_has_no_file() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("ringloop-bind-{}", std::process::id());
    let listener = bind_unix(format!("\0{name}")).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(address.as_abstract_name(), Some(name.as_bytes()));
    let error = bind_unix(format!("\0{name}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!(r#""\0{name}": "#)), "{error}");
    drop(listener);
    bind_unix(format!("\0{name}")).unwrap();
}
