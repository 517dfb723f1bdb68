//! The machine's network interfaces: what groups are joined on and sent to by.

use std::ffi::CString;
use std::io;
use std::net::IpAddr;

/// An address of an interface that is up. One with several addresses stands there several times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interface {
    pub(crate) number: u32,
    pub(crate) address: IpAddr,
}

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

/// All addresses by which a group can be reached: of interfaces that are up and know groups, and of the loopback one.
///
/// # Errors
/// Those of the system.
pub(crate) fn all() -> io::Result<Vec<Interface>> {
    let mut list = std::ptr::null_mut();
    // SAFETY: the pointer is to a pointer, which is set when the call succeeds.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: the list is linked by pointers that are null or valid until it is freed, and its names are C strings.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        let reaches = entry.ifa_flags & (libc::IFF_MULTICAST | libc::IFF_LOOPBACK) as libc::c_uint != 0;
        let up = entry.ifa_flags & libc::IFF_UP as libc::c_uint != 0;
        // SAFETY: an address is null or one of the family that it names.
        let address = unsafe { address(entry.ifa_addr) };
        if let Some(address) = address.filter(|_| up && reaches) {
            // SAFETY: as above.
            let number = unsafe { libc::if_nametoindex(entry.ifa_name) };
            if number != 0 {
                found.push(Interface { number, address });
            }
        }
    }
    // SAFETY: the list is freed once, and nothing of it is used afterwards.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// # Safety
/// The pointer is null, or that of an address whose size is that of its family.
unsafe fn address(pointer: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: as the caller says.
    unsafe {
        match i32::from(pointer.as_ref()?.sa_family) {
            libc::AF_INET => {
                let address = pointer.cast::<libc::sockaddr_in>().read_unaligned();
                Some(IpAddr::from(address.sin_addr.s_addr.to_ne_bytes()))
            }
            libc::AF_INET6 => {
                let address = pointer.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(IpAddr::from(address.sin6_addr.s6_addr))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there() {
        let loopback = all().unwrap().into_iter().find(|interface| interface.address.is_loopback()).unwrap();
        assert_eq!(scope(&loopback.number.to_string()).unwrap(), loopback.number);
        let error = scope("nowhere0").unwrap_err().to_string();
        assert!(error.contains("no network interface nowhere0"), "{error}");
    }
}
