//! Where to listen or to connect to, as it is typed.

use std::io;

/// Takes `localhost:7777`, `127.0.0.1:7777` or `[::1]:7777` apart. The host is without brackets.
pub(crate) fn parse(text: &str) -> io::Result<(String, u16)> {
    split(text).ok_or_else(|| {
        let help = "a host and a port are needed, such as localhost:7777 or [::1]:7777";
        io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?}: {help}"))
    })
}

fn split(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    // Without brackets, a port could as well be the end of an IPv6 address.
    let is_clear = in_brackets.is_some() || !host.contains(':');
    let host = in_brackets.unwrap_or(host);
    (is_clear && !host.is_empty()).then_some((host.to_owned(), port.parse().ok()?))
}
