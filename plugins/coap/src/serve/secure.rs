//! DTLS between a socket and [`Datagrams`]: without it, everything goes through as it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::datagrams::Datagrams;
#[cfg(feature = "dtls")]
use super::service::Service;
use crate::endpoint::Transmit;

/// What serves all peers of a socket.
pub struct Secured {
    datagrams: Datagrams,
    #[cfg(feature = "dtls")]
    dtls: Option<Box<Dtls>>,
}

impl Secured {
    pub fn plain(datagrams: Datagrams) -> Secured {
        Secured {
            datagrams,
            #[cfg(feature = "dtls")]
            dtls: None,
        }
    }

    /// Rings when there are notifications to be sent: then [`Secured::handle_timeout`] is to be called.
    pub fn wake(&self) -> Arc<Notify> {
        self.datagrams.wake()
    }

    /// Takes a datagram that came from a peer.
    pub fn receive(&mut self, now: Instant, peer: SocketAddr, bytes: &[u8]) {
        #[cfg(feature = "dtls")]
        if let Some(dtls) = &mut self.dtls {
            dtls.server.receive(now, peer, bytes::Bytes::copy_from_slice(bytes));
            return dtls.happenings(now, &mut self.datagrams);
        }
        self.datagrams.receive(now, peer, bytes, None);
    }

    /// Takes a datagram that came to a group, which can't be secured.
    pub fn receive_of_group(&mut self, now: Instant, peer: SocketAddr, bytes: &[u8]) {
        self.datagrams.receive_of_group(now, peer, bytes);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        #[cfg(feature = "dtls")]
        if let Some(dtls) = &mut self.dtls {
            dtls.server.handle_timeout(now);
            dtls.happenings(now, &mut self.datagrams);
        }
        self.datagrams.handle_timeout(now);
    }

    /// When [`Secured::handle_timeout`] is to be called at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        let due = self.datagrams.next_timeout();
        #[cfg(feature = "dtls")]
        if let Some(dtls) = &self.dtls {
            return [due, dtls.server.next_timeout()].into_iter().flatten().min();
        }
        due
    }

    /// The next datagram for the socket.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        #[cfg(feature = "dtls")]
        if let Some(dtls) = &mut self.dtls {
            return dtls.poll_transmit(&mut self.datagrams);
        }
        self.datagrams.poll_transmit()
    }

    /// Whether there are more notifications than were made at once.
    pub fn has_notices(&self) -> bool {
        self.datagrams.has_notices()
    }

    /// Says goodbye where that can be said: a few datagrams more.
    pub fn close(&mut self) {
        #[cfg(feature = "dtls")]
        if let Some(dtls) = &mut self.dtls {
            dtls.server.close();
        }
    }
}

#[cfg(feature = "dtls")]
pub use with_dtls::Dtls;

#[cfg(feature = "dtls")]
mod with_dtls {
    use std::collections::HashMap;

    use serde_json::json;
    use tracemq_plugin_api::prelude::*;
    use tracemq_plugin_api::serde_json;

    use super::*;
    use crate::dtls::{Server, ServerEvent};

    /// The associations, and who is at their other ends.
    pub struct Dtls {
        pub(super) server: Server,
        service: Arc<Service>,
        clients: HashMap<SocketAddr, Option<Arc<str>>>,
    }

    impl Secured {
        pub fn dtls(datagrams: Datagrams, server: Server, service: Arc<Service>) -> Secured {
            Secured { datagrams, dtls: Some(Box::new(Dtls { server, service, clients: HashMap::new() })) }
        }
    }

    impl Dtls {
        pub(super) fn happenings(&mut self, now: Instant, datagrams: &mut Datagrams) {
            while let Some(event) = self.server.poll_event() {
                match event {
                    ServerEvent::Opened { peer, identity, cipher } => {
                        let whose = identity.as_ref().map(|name| format!(", {name:?}")).unwrap_or_default();
                        let text = format!("client {peer} connected{whose} ({cipher})");
                        let details =
                            json!({ "peer": peer.to_string(), "identity": identity, "cipher": cipher });
                        self.tell(EventKind::CLIENT_CONNECTED, text, details);
                        self.clients.insert(peer, identity.map(Arc::from));
                    }
                    ServerEvent::Received { peer, bytes } => {
                        let identity = self.clients.get(&peer).and_then(Option::as_ref);
                        datagrams.receive(now, peer, &bytes, identity);
                    }
                    ServerEvent::Closed { peer, why } => {
                        self.clients.remove(&peer);
                        datagrams.forget(now, peer);
                        let text = format!("client {peer} disconnected: {why}");
                        let details = json!({ "peer": peer.to_string(), "reason": why });
                        self.tell(EventKind::CLIENT_DISCONNECTED, text, details);
                    }
                    ServerEvent::Refused { peer, why } => {
                        let text = format!("refused a DTLS handshake ({peer}): {why}");
                        let details =
                            json!({ "what": "connection", "peer": peer.to_string(), "reason": why });
                        self.tell(EventKind::CLIENT_REFUSED, text, details);
                    }
                }
            }
        }

        fn tell(&self, kind: EventKind, text: String, details: serde_json::Value) {
            self.service.events().emit(Event::new(kind, text).details(details));
        }

        pub(super) fn poll_transmit(&mut self, datagrams: &mut Datagrams) -> Option<Transmit> {
            loop {
                if let Some((peer, bytes)) = self.server.poll_transmit() {
                    return Some(Transmit { peer, bytes });
                }
                let plain = datagrams.poll_transmit()?;
                // To whom there is no association (any more) nothing is sent.
                self.server.send(Instant::now(), plain.peer, &plain.bytes);
            }
        }
    }
}
