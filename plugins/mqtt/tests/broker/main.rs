//! The embedded broker against clients that this project did not write: mosquitto's tools, and raw sockets
//! where a client would not do what is tested.
#![cfg(feature = "serve")]

mod access;
mod bounds;
mod house;
mod messages;
mod protocol;
mod raw;
mod start;
mod tls;
mod websocket;
