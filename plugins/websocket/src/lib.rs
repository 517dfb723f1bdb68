//! WebSocket and raw TCP sockets for TraceMQ.
