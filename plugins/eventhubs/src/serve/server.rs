//! The server as the host sees it.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracemq_plugin_api::net::{ServerTls, Users, listen};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MessageView, spawn};
use tracemq_plugin_api::serde_json;

use super::access::Keys;
use super::feed::Feed;
use super::front::Front;
use super::hub::Hubs;
use super::log::Event as Sent;
use super::options::{DEFAULT_KEY, ServeOptions};
use super::service::{Busy, Service};
use crate::connection_string::{ConnectionString, Credential};
use crate::endpoint::Dialect;
use crate::publish::PublishOptions;
use crate::wire::Message;

/// Batches that wait for the host; what is beyond waits in the feed, which is bounded itself.
const BATCHES: usize = 4;
/// How often old events are looked for, and the disk is told of new ones.
const SWEEP: Duration = Duration::from_secs(1);
/// How long clients may take to say goodbye when the server stops.
const GOODBYE: Duration = Duration::from_secs(3);
/// Stands for a key that was given to us: what is shown may be kept where secrets are not to be. Unless we are told to show it.
const HIDDEN: &str = "***";

/// A running server.
pub struct HubServer {
    addresses: Vec<String>,
    service: Arc<Service>,
    read: Mutex<bool>,
    stop: watch::Sender<bool>,
    room: Arc<Semaphore>,
    most: u32,
    listener: JoinHandle<()>,
    sweeper: JoinHandle<()>,
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.listener.abort();
        self.sweeper.abort();
        self.service.feed.close();
    }
}

/// Where clients find the server: a URL, and a connection string to paste into one.
fn addresses(local: SocketAddr, options: &ServeOptions) -> Result<Vec<String>> {
    let hubs = options.hubs()?;
    let keys = options.keys()?;
    let ip = match local.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => "127.0.0.1".to_owned(),
        ip if ip.is_unspecified() => "::1".to_owned(),
        ip => ip.to_string(),
    };
    let key = keys.into_iter().next().map(|key| {
        let open = options.print_key || options.shared_access_key.is_empty();
        let secret = if open { key.secret } else { HIDDEN.to_owned() };
        Credential::Key { name: key.name, key: secret }
    });
    let connection = key.map(|credential| ConnectionString {
        host: ip,
        port: Some(local.port()),
        credential,
        // With several, the client's own code has to say which.
        entity_path: (hubs.len() == 1).then(|| hubs[0].name.clone()),
        emulator: !options.is_tls(),
    });
    let url = format!("sb://{local}");
    Ok(std::iter::once(url).chain(connection.map(|connection| connection.in_clear())).collect())
}

impl HubServer {
    /// Starts the server. Clients can connect when this returns.
    ///
    /// # Errors
    /// A bad option, file or folder (config), an address that can't be listened on (connect).
    pub async fn start(options: ServeOptions, context: Context) -> Result<HubServer> {
        options.check(context.url())?;
        let bind = options.address(context.url())?;
        let secured = options
            .is_tls()
            .then(|| ServerTls::open(&options.tls, context.state_dir(), &bind))
            .transpose()?;
        let tls = secured.as_ref().map(|tls| tls.acceptor(&[])).transpose()?;
        let keys = options.keys()?;
        let users = Users::new(&keys)?;
        let given = options.clone();
        let hubs = spawn_blocking(move || Hubs::open(&given))
            .await
            .map_err(|error| Error::new(ErrorKind::PANIC, error.to_string()))??;
        let cannot = |error| Error::new(ErrorKind::CONNECT, format!("cannot listen on {bind}: {error}"));
        let listener = TcpListener::from_std(listen(&bind)?).map_err(cannot)?;
        let local = listener.local_addr().map_err(cannot)?;
        let addresses = addresses(local, &options)?;

        let events = context.events().clone();
        if let Some(tls) = &secured {
            tls.announce(&events);
        }
        for text in &hubs.cut {
            events.emit(Event::new(EventKind::WARNING, text.clone()));
        }
        if options.shared_access_key.is_empty() && !local.ip().is_loopback() {
            let (name, _) = DEFAULT_KEY;
            let text = format!(
                "{local} can be reached by other machines, and everybody knows the key {name}: give one of your own with \
                 --shared-access-key"
            );
            events.emit(Event::new(EventKind::WARNING, text));
        }
        let max_message = options.max_message_size as usize;
        let name = context.host().to_owned();
        let keys = Keys::new(keys, users);
        let busy = Busy::new(options.busy_every);
        let service = Arc::new(Service::new(name, hubs, keys, events, Feed::default(), max_message, busy));
        let (stop, stopping) = watch::channel(false);
        let most = options.max_clients;
        let room = Arc::new(Semaphore::new(most as usize));
        let front = Front { service: Arc::clone(&service), tls, stopping, clients: AtomicU64::new(0) };
        let listener = spawn(Arc::new(front).listen(listener, Arc::clone(&room)));
        let sweeper = spawn(sweep(Arc::clone(&service)));
        let read = Mutex::new(false);
        Ok(HubServer { addresses, service, read, stop, room, most, listener, sweeper })
    }

    fn send(
        &self,
        options: &PublishOptions,
        message: &MessageView<'_>,
    ) -> std::result::Result<Outcome, String> {
        let name = message.topic_text();
        let hubs = &self.service.hubs;
        let hub = match name.is_empty() {
            false => hubs.get(&name).ok_or_else(|| format!("there is no hub {name}"))?,
            true => {
                let mut all = hubs.iter();
                match (all.next(), all.next()) {
                    (Some(only), None) => only,
                    _ => return Err("there are several hubs: the topic has to be one".to_owned()),
                }
            }
        };
        let encoded = options.encoded(message)?;
        if encoded.len() > self.service.max_message {
            let most = self.service.max_message;
            return Err(format!(
                "it has {} bytes, and {most} are allowed (--max-message-size)",
                encoded.len()
            ));
        }
        let sent = Message::read(&encoded).and_then(|message| Sent::new(message, None));
        let sent = sent.map_err(|error| error.to_string())?;
        let partition = match &options.partition {
            Some(id) => hub.partition(id).ok_or_else(|| format!("hub {} has no partition {id}", hub.name))?,
            None => hub.choose(sent.key()),
        };
        let appended = partition.append(&[sent]).map_err(|error| format!("it can't be kept: {error}"))?;
        let details = json!({ "partition": partition.id, "sequence": appended.first });
        Ok(Outcome::acknowledged().details(details))
    }
}

/// Forgets what has become too old, and tells the disk what was written.
async fn sweep(service: Arc<Service>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let service = Arc::clone(&service);
        // An error says that the runtime is being stopped.
        let _ = spawn_blocking(move || {
            service.hubs.partitions().for_each(|partition| partition.expire());
            sync(&service);
        })
        .await;
    }
}

fn sync(service: &Service) {
    for partition in service.hubs.partitions() {
        if let Some(Err(error)) = partition.unsynced().map(|file| file.sync_data()) {
            let text = format!(
                "hub {}, partition {}: the disk does not take its events: {error}",
                partition.hub, partition.id
            );
            service.events.emit(Event::new(EventKind::WARNING, text));
        }
    }
}

impl Server for HubServer {
    type Publish = PublishOptions;

    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    fn messages(&self) -> Result<Subscription> {
        if std::mem::replace(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner), true) {
            return Err(Error::unsupported("the messages of a server can be read only once"));
        }
        let (sender, subscription) = queue(BATCHES);
        let service = Arc::clone(&self.service);
        spawn(async move {
            // Room first, events then: those that wait for the host stay where they are counted when dropped.
            while let Some(permit) = sender.reserve().await {
                let batch = tokio::select! {
                    batch = service.feed.next() => batch,
                    () = sender.closed() => None,
                };
                let Some(batch) = batch else { return };
                permit.send(batch);
            }
        });
        Ok(subscription)
    }

    /// The topic is the hub; it may be left out when there is only one.
    async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        options.check(Dialect::Hubs)?;
        let outcome =
            |message: MessageView<'_>| self.send(&options, &message).unwrap_or_else(Outcome::refused);
        Ok(batch.iter().map(outcome).collect())
    }

    async fn close(&self) -> Result<()> {
        self.listener.abort();
        self.stop.send_replace(true);
        // Each client holds a place until it is gone. Whoever does not take the goodbye is left without one.
        let _ = timeout(GOODBYE, self.room.acquire_many(self.most)).await;
        self.sweeper.abort();
        self.service.feed.close();
        let service = Arc::clone(&self.service);
        spawn_blocking(move || sync(&service))
            .await
            .map_err(|error| Error::new(ErrorKind::PANIC, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: serde_json::Value, local: &str) -> Vec<String> {
        let options = serde_json::from_value(json).expect("the types fit");
        addresses(local.parse().expect("an address"), &options).expect("addresses")
    }

    #[test]
    fn the_connection_string_works_as_it_is_unless_it_would_show_a_secret() {
        let key = "SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE";
        assert_eq!(
            found(json!({"hub": ["h"]}), "127.0.0.1:7"),
            [
                "sb://127.0.0.1:7".to_owned(),
                format!("Endpoint=sb://127.0.0.1:7/;{key};EntityPath=h;UseDevelopmentEmulator=true")
            ]
        );
        assert_eq!(
            found(json!({"hub": ["h", "i"], "tls_cert": "c"}), "[::]:7")[1],
            format!("Endpoint=sb://[::1]:7/;{key}")
        );
        let own = &found(json!({"shared_access_key": ["app=hunter2"]}), "0.0.0.0:7")[1];
        assert!(own.contains("app;SharedAccessKey=***") && own.contains("127.0.0.1:7"), "{own}");
        let shown = &found(json!({"shared_access_key": ["app=own="], "print_key": true}), "0.0.0.0:7")[1];
        assert!(shown.contains("app;SharedAccessKey=own=;"), "{shown}");
    }
}
