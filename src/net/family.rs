//! Families of Internet addresses.

use std::net::{IpAddr, SocketAddr};

/// A family of Internet addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: &SocketAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// True if an address is of this family.
    pub fn includes(self, address: &SocketAddr) -> bool {
        Family::of(address) == self
    }
}

/// True if `text` is an IP address, of either family, and not a name.
///
/// ```
/// use ringloop::net::is_valid_ip;
///
/// assert!(is_valid_ip("127.0.0.1") && is_valid_ip("2001:db8::1"));
/// assert!(!is_valid_ip("localhost") && !is_valid_ip("4.4.4") && !is_valid_ip(""));
/// ```
pub fn is_valid_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}
