//! A running broker: one thread that owns a runtime, and what leads into and out of it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use rmqtt::codec::types::Publish as CodecPublish;
use rmqtt::codec::v5::PublishProperties;
use rmqtt::context::ServerContext;
use rmqtt::net::Builder;
use rmqtt::router::DefaultRouter;
use rmqtt::server::MqttServer;
use rmqtt::session::SessionState;
use rmqtt::shared::DefaultShared;
use rmqtt::types::{From as Origin, Id, Publish, QoS};
use rmqtt::utils::timestamp_millis;
use tokio::net::TcpListener;
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tracemq_plugin_api::net::{ServerTls, TlsAcceptor, Users, listen};
use tracemq_plugin_api::sdk::{Events, Feed};

use super::budget::Budget;
use super::error::BrokerError;
use super::event::{BrokerEvent, BrokerMessage, OutgoingMessage, Text};
use super::filter;
use super::front::Front;
use super::hooks::House;
use super::links::{Links, Transport};
use super::options::{BrokerOptions, Limits};
use super::stores::{KeepAliveCap, Retained, RetainedStore, RoundRobin};
use super::wills::Wills;

/// Where a broker listens unless told otherwise: this machine only, on the registered ports of MQTT.
const DEFAULT_BIND: &str = "127.0.0.1:1883";
const DEFAULT_BIND_TLS: &str = "127.0.0.1:8883";
/// TLS agrees to no protocol name: agreeing to some would shut out clients that offer only others.
const ALPN: &[&[u8]] = &[];
/// Threads that serve clients.
const WORKERS: usize = 2;
/// How long the end of a broker may take. It takes less than a millisecond.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Events that wait to be read.
const MAX_EVENTS: usize = 4096;
/// Bytes of the messages that wait to be shown; at most an eighth of the memory for payloads.
const MAX_SHOWN_BYTES: usize = 32 * 1024 * 1024;
/// The client identifier under which messages from inside are published.
const INSIDE: &str = "$tracemq";

/// A running broker. It stops when dropped.
#[derive(Debug)]
pub struct Broker {
    addresses: Vec<String>,
    events: Arc<Feed<BrokerEvent>>,
    messages: Arc<Feed<BrokerMessage>>,
    core: Core,
    budget: Arc<Budget>,
    retained: Arc<Retained>,
    tls: Option<ServerTls>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What of the running library can be reached from outside its runtime.
struct Core {
    runtime: Handle,
    scx: ServerContext,
    /// Where the library itself listens, for our front only.
    inner: SocketAddr,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts a broker; clients can connect when this returns. Waits for a few milliseconds.
    pub fn start(options: BrokerOptions) -> Result<Self, BrokerError> {
        let secure = options.tls.is_set();
        let default = if secure { DEFAULT_BIND_TLS } else { DEFAULT_BIND };
        let bind = options.bind.as_deref().unwrap_or(default);
        let open = || ServerTls::open(&options.tls, options.state_dir.as_deref(), bind);
        let tls = secure.then(open).transpose()?;
        let acceptor = tls.as_ref().map(|tls| tls.acceptor(ALPN)).transpose()?;
        let mut listeners =
            vec![(listen(bind)?, if tls.is_some() { Transport::Mqtts } else { Transport::Mqtt })];
        if let Some(address) = &options.ws_bind {
            listeners.push((listen(address)?, if tls.is_some() { Transport::Wss } else { Transport::Ws }));
        }
        let mut addresses = Vec::new();
        for (listener, transport) in &listeners {
            addresses.push(format!("{}://{}", transport.scheme(), listener.local_addr()?));
        }
        let limits = &options.limits;
        let budget = Budget::new(limits.max_payload_memory);
        let retained = Retained::new(limits.max_retained, limits.max_payload_memory / 2);
        let events = Arc::new(Feed::new(MAX_EVENTS, usize::MAX));
        let messages =
            Arc::new(Feed::new(limits.max_shown, MAX_SHOWN_BYTES.min(limits.max_payload_memory / 8)));
        let house = Arc::new(House {
            users: Users::new(&options.users)?,
            deny_subscribe: options.deny_subscribe,
            deny_publish: options.deny_publish,
            max_topic_aliases: limits.max_topic_aliases,
            links: Arc::new(Links::new()),
            budget: Arc::clone(&budget),
            retained: Arc::clone(&retained),
            events: Arc::clone(&events),
            messages: Arc::clone(&messages),
            wills: Wills::default(),
            scx: Mutex::new(None),
        });
        let setup = Setup {
            house,
            listeners,
            tls: acceptor,
            limits: options.limits,
            keep_alive: KeepAliveCap(options.max_keep_alive),
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("mqtt-broker".to_owned())
            .spawn(move || setup.run(&ready, stopped))?;
        let core = started.recv().map_err(|_| BrokerError::Stopped)??;
        Ok(Self {
            addresses,
            events,
            messages,
            core,
            budget,
            retained,
            tls,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The addresses clients connect to, as URLs with the real port: `mqtt://127.0.0.1:1883`.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Tells how clients come to trust a certificate that was made. To be called once.
    pub fn announce(&self, events: &Events) {
        if let Some(tls) = &self.tls {
            tls.announce(events);
        }
    }

    /// What clients do. Bounded: a reader that lags loses the oldest events, and is told how many.
    pub fn events(&self) -> Arc<Feed<BrokerEvent>> {
        Arc::clone(&self.events)
    }

    /// Every message that a client published and that was not refused. Bounded like [`Broker::events`].
    pub fn messages(&self) -> Arc<Feed<BrokerMessage>> {
        Arc::clone(&self.messages)
    }

    /// Publishes a message to all subscribers, from inside. The deny lists do not apply to it.
    pub async fn publish(&self, message: OutgoingMessage) -> Result<(), BrokerError> {
        let topic = message.topic.clone();
        let fail = |reason: String| BrokerError::Publish { topic: topic.clone(), reason };
        if let Some(fault) = filter::topic_fault(&message.topic) {
            return Err(fail(fault));
        }
        let qos = QoS::try_from(message.qos)
            .map_err(|_| fail(format!("QoS {} does not exist; use 0, 1 or 2", message.qos)))?;
        if !self.budget.room(STOP_PATIENCE).await {
            return Err(fail("the broker holds too many undelivered bytes; slow subscribers?".to_owned()));
        }
        let weight = message.topic.len() + message.payload.len();
        if message.retain && !message.payload.is_empty() && !self.retained.room(weight).await {
            return Err(fail("the broker keeps as many retained messages as it may".to_owned()));
        }
        let payload =
            if message.payload.is_empty() { message.payload } else { self.budget.track(&message.payload) };
        let known = message.properties;
        let properties = PublishProperties {
            user_properties: known.user,
            content_type: known.content_type,
            response_topic: known.response_topic,
            correlation_data: known.correlation_data,
            message_expiry_interval: known.message_expiry.and_then(NonZeroU32::new),
            is_utf8_payload: known.utf8,
            ..PublishProperties::default()
        };
        let publish: Publish = CodecPublish {
            dup: false,
            retain: message.retain,
            qos,
            topic: Text::from(message.topic),
            packet_id: None,
            payload,
            properties: Some(properties),
        }
        .into();
        let publish = publish.create_time(timestamp_millis());
        let scx = self.core.scx.clone();
        let sent = self.core.runtime.spawn(async move {
            let id = Id::new(scx.node.id(), 0, None, None, Text::from_static(INSIDE), None);
            let expiry = publish.retain.then_some(Duration::ZERO);
            SessionState::forwards(&scx, Origin::from_system(id), publish, false, expiry).await
        });
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(fail(error.to_string())),
            Err(_) => Err(BrokerError::Stopped),
        }
    }

    /// Stops the broker and waits until its threads have ended and its ports are free again.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the broker's thread panicked");
        }
    }
}

/// All that the broker's thread needs.
struct Setup {
    house: Arc<House>,
    listeners: Vec<(StdListener, Transport)>,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    keep_alive: KeepAliveCap,
}

impl Setup {
    /// The broker's thread: runs until told to stop, or until the handle is gone.
    fn run(self, ready: &mpsc::SyncSender<Result<Core, BrokerError>>, stopped: oneshot::Receiver<()>) {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("mqtt-broker")
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = ready.send(Err(error.into()));
                return;
            }
        };
        let house = Arc::clone(&self.house);
        match runtime.block_on(self.open(&runtime)) {
            Ok((scx, inner)) => {
                let core = Core { runtime: runtime.handle().clone(), scx: scx.clone(), inner };
                if ready.send(Ok(core)).is_ok() {
                    // An error means that the handle is gone, which is a stop as well.
                    let _ = runtime.block_on(stopped);
                }
                house.detach();
                runtime.block_on(release(&scx));
                drop(scx);
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
        runtime.shutdown_timeout(STOP_PATIENCE);
        house.events.close();
        house.messages.close();
    }

    /// Prepares the library and starts all listeners.
    async fn open(self, runtime: &Runtime) -> Result<(ServerContext, SocketAddr), BrokerError> {
        let limits = &self.limits;
        // The busy check would refuse clients because of the load of the whole machine.
        let scx = ServerContext::new()
            .busy_check_enable(false)
            .task_exec_workers(64)
            .mqtt_max_sessions(isize::try_from(limits.max_sessions).unwrap_or(isize::MAX))
            .build()
            .await;
        *scx.extends.retain_mut().await = Box::new(RetainedStore(Arc::clone(&self.house.retained)));
        *scx.extends.shared_subscription_mut().await = Box::new(RoundRobin::new());
        *scx.extends.fitter_mgr_mut().await = Box::new(self.keep_alive);
        self.house.attach(&scx).await;
        let inner = Builder::new()
            .name("inner")
            .laddr((Ipv4Addr::LOCALHOST, 0).into())
            .nodelay(true)
            .proxy_protocol(true)
            .proxy_protocol_timeout(Duration::from_secs(2))
            // Every client is judged by our hook, the nameless too.
            .allow_anonymous(false)
            .max_connections(limits.max_connections)
            .max_packet_size(limits.max_packet_size)
            .max_inflight(limits.max_inflight)
            .max_mqueue_len(limits.max_queued)
            .max_subscriptions(limits.max_subscriptions)
            .max_topic_levels(filter::MAX_LEVELS)
            .max_topic_aliases(limits.max_topic_aliases)
            .handshake_timeout(limits.handshake_timeout)
            .send_timeout(limits.send_timeout)
            // 3.1 and 3.1.1 sessions do not expire, messages only by their own interval, and nothing is sent
            // again while a connection lasts (MQTT 5.0 section 4.4).
            .session_expiry_interval(Duration::from_secs(u32::MAX.into()))
            .message_expiry_interval(Duration::ZERO)
            .message_retry_interval(Duration::ZERO)
            .bind()
            .map_err(|error| BrokerError::System(io::Error::other(error)))?;
        let address = inner.local_addr().map_err(|error| BrokerError::System(io::Error::other(error)))?;
        let server = MqttServer::new(scx.clone()).listener_by_id(inner, 1).build();
        runtime.spawn(async move {
            if let Err(error) = server.run().await {
                log::error!("the broker library stopped: {error}");
            }
        });
        let front = Arc::new(Front {
            house: self.house,
            inner: address,
            tls: self.tls,
            room: Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS))),
            max_packet_size: usize::try_from(limits.max_packet_size).unwrap_or(usize::MAX),
            handshake_timeout: limits.handshake_timeout,
        });
        for (listener, transport) in self.listeners {
            let listener = TcpListener::from_std(listener)?;
            runtime.spawn(Arc::clone(&front).listen(listener, transport));
        }
        Ok((scx, address))
    }
}

/// Breaks the circle of references within the library's context, or its memory would never be freed.
async fn release(scx: &ServerContext) {
    // Bounded: a session may hold one of these locks while it waits for another.
    let _ = timeout(STOP_PATIENCE, async {
        *scx.extends.shared_mut().await = Box::new(DefaultShared::new(None));
        *scx.extends.router_mut().await = Box::new(DefaultRouter::new(None));
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::super::links::proxy_header;
    use super::*;

    #[test]
    fn another_program_cannot_come_in_behind_the_front() {
        let options = BrokerOptions { bind: Some("127.0.0.1:0".to_owned()), ..BrokerOptions::default() };
        let broker = Broker::start(options).expect("it starts");
        let mut stranger = TcpStream::connect(broker.core.inner).expect("it listens");
        stranger
            .write_all(&proxy_header("[2001:db8::1]:4711".parse().expect("an address")))
            .expect("written");
        stranger.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c").expect("written");
        let mut connack = [0; 4];
        stranger.read_exact(&mut connack).expect("a CONNACK");
        assert_eq!(connack, [0x20, 2, 0, 5], "not authorized");
    }
}
