//! The machine's network interfaces, by name and number.

use std::ffi::CString;
use std::io;

/// The number of an IPv6 zone: an interface's name, or the number itself.
///
/// # Errors
/// There is no such interface.
pub(crate) fn scope(zone: &str) -> io::Result<u32> {
    zone.parse().or_else(|_| number(zone))
}

/// # Errors
/// There is no interface of that name.
pub(crate) fn number(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the name is a C string that lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::other(format!("there is no network interface {}", name.to_string_lossy()))),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_number_or_a_name() {
        assert_eq!(scope("7").unwrap(), 7);
        let error = scope("nowhere0").unwrap_err().to_string();
        assert!(error.contains("no network interface nowhere0"), "{error}");
    }
}
