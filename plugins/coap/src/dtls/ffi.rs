//! The calls of OpenSSL that the openssl crate has no names for.

use std::os::raw::{c_int, c_long};
use std::ptr;
use std::time::Duration;

use foreign_types_shared::ForeignTypeRef;
use openssl::ssl::SslStream;
use openssl_sys::{SSL, SSL_ctrl};

/// `DTLSv1_get_timeout` and `DTLSv1_handle_timeout` are macros for these (openssl/ssl.h).
const DTLS_CTRL_GET_TIMEOUT: c_int = 73;
const DTLS_CTRL_HANDLE_TIMEOUT: c_int = 74;

/// An address, which OpenSSL alone looks into.
enum BioAddress {}

unsafe extern "C" {
    fn DTLSv1_listen(ssl: *mut SSL, peer: *mut BioAddress) -> c_int;
    fn BIO_ADDR_new() -> *mut BioAddress;
    fn BIO_ADDR_free(address: *mut BioAddress);
}

/// What a client's hello came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listened {
    /// It brought its cookie back: the stream is this client's now.
    Welcome,
    /// It was asked for a cookie, or nothing can be made of it; nothing is remembered.
    Asked,
    /// The stream can't be used any more.
    Broken,
}

/// Looks at the datagram that waits in the stream (`DTLSv1_listen`).
pub(super) fn listen<S>(stream: &mut SslStream<S>) -> Listened {
    // SAFETY: BIO_ADDR_new returns null or an object that is ours until BIO_ADDR_free. The SSL object is alive and, by the
    // exclusive borrow of its stream, used by nobody else; its BIO is the stream's own. DTLSv1_listen writes into the
    // address, since a BIO of Rust knows no peer, and does not keep it.
    let listened = unsafe {
        let address = BIO_ADDR_new();
        if address.is_null() {
            return Listened::Broken;
        }
        let listened = DTLSv1_listen(stream.ssl().as_ptr(), address);
        BIO_ADDR_free(address);
        listened
    };
    match listened {
        1.. => Listened::Welcome,
        0 => Listened::Asked,
        _ => Listened::Broken,
    }
}

/// After how long [`handle_timeout`] is to be called; `None` while nothing is to be sent again.
pub(super) fn timeout<S>(stream: &mut SslStream<S>) -> Option<Duration> {
    let mut left = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: the SSL object is alive and used by nobody else; this control writes one timeval to where its argument points.
    let running =
        unsafe { SSL_ctrl(stream.ssl().as_ptr(), DTLS_CTRL_GET_TIMEOUT, 0, ptr::from_mut(&mut left).cast()) };
    let seconds = Duration::from_secs(u64::try_from(left.tv_sec).unwrap_or_default());
    let rest = Duration::from_micros(u64::try_from(left.tv_usec).unwrap_or_default());
    (running == 1).then_some(seconds + rest)
}

/// Sends the last flight again if its time has come. `false`: it was sent often enough.
pub(super) fn handle_timeout<S>(stream: &mut SslStream<S>) -> bool {
    // SAFETY: the SSL object is alive and used by nobody else; this control takes no argument.
    let handled: c_long =
        unsafe { SSL_ctrl(stream.ssl().as_ptr(), DTLS_CTRL_HANDLE_TIMEOUT, 0, ptr::null_mut()) };
    handled >= 0
}
