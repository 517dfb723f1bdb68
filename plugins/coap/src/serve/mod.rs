//! The server: resources that clients read, write and observe, and every request shown.
//!
//! `server` is what the host sees. A request comes to a `desk`, by `udp` through the message layer of `datagrams`, and is
//! carried out by the `service`, which knows no transport: `handler` decides what it does to the `resources`, `observers`
//! who is told of it, `show` hands it to the host. `socket` knows which address was asked, `groups` what all servers are. `folder` serves files, `patch` changes JSON, `loss` loses datagrams.

mod config;
mod connections;
mod datagrams;
mod desk;
mod folder;
mod groups;
mod handler;
mod interfaces;
mod loss;
mod observers;
mod patch;
#[cfg(target_os = "linux")]
mod pktinfo;
mod resources;
mod secure;
mod server;
mod service;
mod show;
mod socket;
mod udp;

pub use config::ServeOptions;
pub use server::CoapServer;
