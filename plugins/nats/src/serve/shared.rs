//! What all connections of a server share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tracemq_plugin_api::net::{NetError, TlsAcceptor, User, Users};
use tracemq_plugin_api::sdk::{Event, EventKind, Events};
use tracemq_plugin_api::serde_json;

use super::client::Client;
use super::feed::Feed;
use super::options::Limits;
use super::outbox::Budget;
use super::routes::Routes;

/// Bytes that may wait for all clients together.
const MAX_ALL_PENDING: usize = 256 << 20;
/// The version of nats-server whose core protocol this is: clients look at it to know what they may use.
const PROTOCOL_VERSION: &str = "2.9.0";
const TOKEN: &str = "token";

/// Who is let in.
#[derive(Debug)]
pub struct Auth {
    users: Users,
    token: Users,
}

impl Auth {
    /// # Errors
    /// A user given twice.
    pub fn new(users: &[User], token: Option<&str>) -> Result<Auth, NetError> {
        let token = token.map(|secret| User { name: TOKEN.to_owned(), secret: secret.to_owned() });
        Ok(Auth { users: Users::new(users)?, token: Users::new(token.as_slice())? })
    }

    /// Whether a client has to show who it is.
    pub fn is_required(&self) -> bool {
        !self.users.is_empty() || !self.token.is_empty()
    }

    /// With both a token and users, either will do.
    pub fn allow(&self, user: Option<&str>, password: Option<&str>, token: Option<&str>) -> bool {
        !self.is_required()
            || (!self.users.is_empty() && self.users.allow(user, password.map(str::as_bytes)))
            || (!self.token.is_empty() && self.token.allow(Some(TOKEN), token.map(str::as_bytes)))
    }
}

/// See the module.
pub struct Shared {
    pub routes: Arc<Routes>,
    pub auth: Auth,
    pub limits: Limits,
    pub tls: Option<TlsAcceptor>,
    /// Clients must show a certificate.
    pub tls_verify: bool,
    pub events: Events,
    pub feed: Arc<Feed>,
    pub budget: Arc<Budget>,
    id: String,
    address: SocketAddr,
    clients: Mutex<HashMap<u64, Arc<Client>>>,
    next: AtomicU64,
}

impl Shared {
    pub fn new(
        address: SocketAddr,
        limits: Limits,
        auth: Auth,
        tls: Option<TlsAcceptor>,
        tls_verify: bool,
        events: Events,
    ) -> Shared {
        Shared {
            routes: Arc::default(),
            auth,
            limits,
            tls,
            tls_verify,
            events,
            feed: Arc::default(),
            budget: Arc::new(Budget::new(MAX_ALL_PENDING)),
            id: nkeys::KeyPair::new_server().public_key(),
            address,
            clients: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    /// The clients by their numbers.
    pub fn clients(&self) -> MutexGuard<'_, HashMap<u64, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up a new client, unless there are as many as there may be: then it is one to be told so.
    pub fn admit(&self, peer: SocketAddr) -> Result<Arc<Client>, Arc<Client>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let client = Arc::new(Client::new(id, peer, self.limits.max_pending, Arc::clone(&self.budget)));
        let mut clients = self.clients();
        if clients.len() >= self.limits.max_connections {
            return Err(client);
        }
        clients.insert(id, Arc::clone(&client));
        Ok(client)
    }

    /// Forgets a client and its subscriptions.
    pub fn dismiss(&self, client: &Client) {
        self.clients().remove(&client.id);
        let subscriptions = std::mem::take(&mut *client.subscriptions());
        if !subscriptions.is_empty() {
            self.routes.remove(subscriptions.values());
        }
    }

    /// The INFO line for a client.
    pub fn info(&self, client: &Client) -> String {
        let mut info = json!({
            "server_id": self.id,
            "server_name": concat!("tracemq-", env!("CARGO_PKG_VERSION")),
            "version": PROTOCOL_VERSION,
            "proto": 1,
            "host": self.address.ip().to_string(),
            "port": self.address.port(),
            "headers": true,
            "max_payload": self.limits.max_payload,
            "client_id": client.id,
            "client_ip": client.peer.ip().to_string(),
        });
        let mut set = |name: &str, value: bool| {
            if value {
                info[name] = true.into();
            }
        };
        set("auth_required", self.auth.is_required());
        set("tls_required", self.tls.is_some());
        set("tls_verify", self.tls_verify);
        format!("INFO {info}\r\n")
    }

    /// Tells the host that something was refused to a client.
    pub fn refused(&self, client: &Client, what: &str, subject: Option<&str>, reason: &str) {
        let to = subject.map(|subject| format!(" to {subject}")).unwrap_or_default();
        let text = format!("refused {what}{to} of {client}: {reason}");
        let details = json!({
            "what": what,
            "client": client.id,
            "peer": client.peer.to_string(),
            "subject": subject,
            "reason": reason,
        });
        self.events.emit(Event::new(EventKind::CLIENT_REFUSED, text).details(details));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_or_a_user_lets_in() {
        let users: Vec<User> = vec!["ann=secret".parse().expect("a user")];
        let both = Auth::new(&users, Some("t0ken")).expect("valid");
        assert!(both.is_required());
        assert!(both.allow(Some("ann"), Some("secret"), None));
        assert!(both.allow(None, None, Some("t0ken")));
        assert!(!both.allow(Some("ann"), Some("t0ken"), None));
        assert!(!both.allow(Some("token"), Some("t0ken"), None));
        assert!(!both.allow(None, None, None));
        let token = Auth::new(&[], Some("t0ken")).expect("valid");
        assert!(!token.allow(Some("any"), Some("one"), None));
        let none = Auth::new(&[], None).expect("valid");
        assert!(!none.is_required() && none.allow(None, None, None));
    }
}
