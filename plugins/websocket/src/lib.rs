//! WebSocket and raw TCP sockets for TraceMQ.

pub mod deflate;
