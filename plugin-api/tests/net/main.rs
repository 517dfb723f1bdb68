//! `net` over real sockets on loopback: every error a user can meet says what is wrong and which option cures it.
#![cfg(feature = "net")]

mod files;
mod proxy;
mod server;
mod support;
mod tcp;
mod tls;
mod ws;
