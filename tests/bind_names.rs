//! Sockets for all addresses of a name, where names, ports or addresses are not as usual.

mod support;

use ringloop::net::{BindOptions, bind_sockets};
use std::ffi::{CStr, CString};
use std::io::{ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use support::{in_child, in_own_process};

/// Runs `body`, which is all of the test `name`, with a network of its own, and with `hosts` as
/// `/etc/hosts`. Where that is forbidden, there is nothing to be tested.
fn with_hosts(name: &str, hosts: &str, body: impl FnOnce()) {
    // In a process of its own, where no other thread looks up names: the child may do so.
    in_own_process(name, || {
        let path = std::env::temp_dir().join(format!("ringloop-hosts-{}", std::process::id()));
        std::fs::write(&path, hosts).unwrap();
        let file = CString::new(path.to_str().unwrap()).unwrap();
        let result = in_child(|| {
            if is_apart() && mount(&file, c"/etc/hosts", libc::MS_BIND) {
                body();
            }
            Ok(())
        });
        std::fs::remove_file(&path).unwrap();
        assert_eq!(result, Ok(()));
    });
}

/// Leaves the mounts and the network of the others.
fn is_apart() -> bool {
    let spaces = libc::CLONE_NEWNS | libc::CLONE_NEWNET;
    let is_alone = [spaces, libc::CLONE_NEWUSER | spaces].into_iter().any(|spaces| {
        // SAFETY: passes no memory.
        unsafe { libc::unshare(spaces) == 0 }
    });
    is_alone && mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)
}

fn mount(source: &CStr, target: &CStr, flags: libc::c_ulong) -> bool {
    let (source, target) = (source.as_ptr(), target.as_ptr());
    // SAFETY: the strings end with zero bytes, and there is no data.
    unsafe { libc::mount(source, target, c"".as_ptr(), flags, std::ptr::null()) == 0 }
}

/// Gives the loopback interface its addresses.
fn bring_loopback_up() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: zero is a value of each of its fields.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as _, b'o' as _]);
    request.ifr_ifru.ifru_flags = libc::IFF_UP as _;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the request is what this call reads.
    assert_eq!(unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &request) }, 0);
}

fn set(parameter: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{parameter}"), value).unwrap();
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn bind(host: &str) -> Result<Vec<TcpListener>> {
    bind_sockets(host, 0, &BindOptions::new())
}

const BOTH: &str = "127.0.0.1 localhost\n::1 localhost\n";

#[test]
fn a_port_that_is_not_free_at_all_addresses_is_not_chosen() {
    with_hosts("a_port_that_is_not_free_at_all_addresses_is_not_chosen", BOTH, || {
        bring_loopback_up();
        if !has_ipv6() {
            return;
        }
        // The kernel chooses among the odd ones of the first half.
        set("ipv4/ip_local_port_range", "40000 40063");
        let taken = [40001, 40003, 40005, 40007];
        let _taken = taken.map(|port| TcpListener::bind((Ipv6Addr::LOCALHOST, port)).unwrap());
        for _ in 0..50 {
            let sockets = bind("localhost").unwrap();
            let ports = sockets.iter().map(|socket| socket.local_addr().unwrap().port());
            let ports: Vec<_> = ports.collect();
            assert!(ports.len() == 2 && ports[0] == ports[1], "{ports:?}");
            assert!(!taken.contains(&ports[0]), "{ports:?}");
        }
    });
}

#[test]
fn that_no_port_is_free_at_all_addresses_is_said_in_the_end() {
    with_hosts("that_no_port_is_free_at_all_addresses_is_said_in_the_end", BOTH, || {
        bring_loopback_up();
        if !has_ipv6() {
            return;
        }
        set("ipv4/ip_local_port_range", "40000 40000");
        let _taken = TcpListener::bind((Ipv6Addr::LOCALHOST, 40000)).unwrap();
        let error = bind("localhost").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("[::1]:40000"), "{error}");
    });
}

#[test]
fn an_address_that_a_name_has_twice_is_listened_at_once_and_ipv4_comes_first() {
    let name = "an_address_that_a_name_has_twice_is_listened_at_once_and_ipv4_comes_first";
    let hosts = "::1 twice\n127.0.0.1 twice\n127.0.0.1 twice\n::1 twice\n";
    with_hosts(name, hosts, || {
        bring_loopback_up();
        if !has_ipv6() {
            return;
        }
        let sockets = bind("twice").unwrap();
        let addresses: Vec<_> =
            sockets.iter().map(|socket| socket.local_addr().unwrap().ip()).collect();
        let expected: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        assert_eq!(addresses, expected);
    });
}

#[test]
fn an_address_of_localhost_that_the_system_does_not_have_is_skipped() {
    let name = "an_address_of_localhost_that_the_system_does_not_have_is_skipped";
    let hosts = "127.0.0.1 localhost\n::1 localhost\n127.0.0.1 other\n::1 other\n";
    with_hosts(name, hosts, || {
        if !std::fs::exists("/proc/sys/net/ipv6").unwrap() {
            return;
        }
        set("ipv6/conf/all/disable_ipv6", "1");
        bring_loopback_up();
        let sockets = bind("localhost").unwrap();
        assert_eq!(sockets.len(), 1);
        assert_eq!(sockets[0].local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
        for host in ["other", "::1"] {
            let error = bind(host).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
            assert!(error.to_string().contains("[::1]"), "{error}");
        }
    });
}
