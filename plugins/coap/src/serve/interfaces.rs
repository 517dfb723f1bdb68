//! Where groups can be joined: the machine's network interfaces with their addresses.

use std::io;
use std::net::IpAddr;

/// An address of an interface that is up. One with several addresses stands there several times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interface {
    pub(super) number: u32,
    pub(super) address: IpAddr,
}

/// All addresses by which a group can be reached: of interfaces that are up and know groups, and of the loopback one.
///
/// # Errors
/// Those of the system.
pub(super) fn all() -> io::Result<Vec<Interface>> {
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
        let found = all().unwrap();
        assert!(
            found.iter().any(|interface| interface.address.is_loopback() && interface.number > 0),
            "{found:?}"
        );
    }
}
