//! Host and port, as they stand in a URL (RFC 3986, section 3.2).

/// Splits `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`. The host comes without brackets, and may be empty; the port is
/// text still.
///
/// # Errors
/// What is wrong, as the rest of a sentence that begins with the URL's name and never holds any of the text.
pub fn split_host_port(address: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("has an IPv6 address without its closing bracket")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("has something other than :PORT after its IPv6 address"),
        };
    }
    match address.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err("has an IPv6 address without brackets (write it as [::1]:PORT)")
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((address, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::split_host_port;

    #[test]
    fn names_addresses_and_ports() {
        assert_eq!(split_host_port("broker"), Ok(("broker", None)));
        assert_eq!(split_host_port("broker:1"), Ok(("broker", Some("1"))));
        assert_eq!(split_host_port(":1"), Ok(("", Some("1"))));
        assert_eq!(split_host_port("[::1]"), Ok(("::1", None)));
        assert_eq!(split_host_port("[::1]:99"), Ok(("::1", Some("99"))));
        for wrong in ["[::1", "[::1]99", "::1", "::1:99"] {
            assert!(split_host_port(wrong).is_err(), "{wrong}");
        }
    }
}
