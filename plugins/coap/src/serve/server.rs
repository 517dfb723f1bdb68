//! The server as the host sees it.

use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracemq_plugin_api::net::{self, ServerTls, listen_datagrams};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MessageView, spawn};
use tracemq_plugin_api::{schemars, serde, serde_json};

use super::config::{Listen, ServeOptions, guess, resource_name};
use super::connections::{Acceptor, Front};
use super::datagrams::Datagrams;
use super::desk::Desk;
use super::folder::{self, Folder};
use super::groups::Groups;
use super::loss::Loss;
use super::observers::{Observers, PER_PEER};
use super::resources::{Representation, Resources, Written};
use super::secure::Secured;
use super::service::Service;
use super::show;
use super::socket::ServerSocket;
use super::udp;
use crate::blockwise::BodyLimits;
#[cfg(feature = "dtls")]
use crate::dtls::Over;
use crate::endpoint::{Endpoint, Limits, Parameters};
use crate::message::content_format_number;
use crate::oscore;
use crate::target::Transport;

/// Batches that wait for the host; what is beyond waits in a bounded queue of our own.
const BATCHES: usize = 4;
/// What the kernel may keep for us: devices that send at the same time, acknowledgements of many observers.
const SOCKET_BUFFER: usize = 4 << 20;
/// Peers that are remembered beside the observers.
const PEERS: usize = 4096;
const GOODBYE: Duration = Duration::from_secs(2);
/// How often what takes hours is seen to.
const CHECK: Duration = Duration::from_secs(60);

/// With what the user publishes through the server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OutgoingOptions {
    /// What the payload is: text, json, cbor…, a media type or its number (default: what the resource is, or what it looks like)
    pub content_format: Option<String>,
}

/// A running server.
pub struct CoapServer {
    addresses: Vec<String>,
    service: Arc<Service>,
    messages: Mutex<bool>,
    stop: watch::Sender<bool>,
    /// What serves; it ends by itself when told to stop.
    sockets: Mutex<Vec<JoinHandle<()>>>,
    /// What looks after things; it is aborted.
    helpers: Vec<JoinHandle<()>>,
}

impl Drop for CoapServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.service.feed().close();
        for helper in &self.helpers {
            helper.abort();
        }
    }
}

impl CoapServer {
    /// Starts the server. It answers when this returns.
    ///
    /// # Errors
    /// A bad option or folder (config), an address that can't be listened on (connect).
    pub async fn start(options: ServeOptions, context: Context) -> Result<CoapServer> {
        let listen = options.listen(context.url())?;
        let mut resources = Resources::new(options.limits());
        for (path, state) in options.preset()? {
            let length = state.payload.len();
            if resources.put(&path, state).is_err() {
                return Err(Error::config(format!(
                    "--resource {path}: {length} bytes do not fit (--max-size, --max-resources)"
                )));
            }
        }
        let loss = Loss::new(options.loss()?);
        let observers = Observers::new(options.max_observers as usize);
        let events = context.events().clone();
        let service = Arc::new(Service::new(resources, observers, options.manners()?, events));

        // Before anything is served, so that what is wrong is found out first.
        let way = Way::open(&listen, &options, &context)?;

        let mut helpers = vec![spawn(check(Arc::clone(&service)))];
        if let Some(root) = options.folder.clone() {
            let largest = options.max_size as usize;
            // The first look comes before the first request.
            let opened = spawn_blocking(move || {
                let mut folder = Folder::open(&root, largest)?;
                let walk = folder.walk(1);
                Ok::<_, Error>((folder, walk))
            });
            let (folder, walk) =
                opened.await.map_err(|error| Error::new(ErrorKind::PANIC, error.to_string()))??;
            folder::apply(walk, &service);
            helpers.push(spawn(folder::watch(folder, Arc::clone(&service))));
        }

        let (stop, stopping) = watch::channel(false);
        let (local, serving) = way.serve(&listen, &options, &service, loss, stopping)?;
        let sockets = Mutex::new(vec![serving]);
        let scheme = listen.transport.scheme();
        let groups =
            options.groups()?.into_iter().map(|group| format!("{scheme}://{group}:{}", local.port()));
        let addresses = std::iter::once(format!("{scheme}://{local}")).chain(groups).collect();
        Ok(CoapServer { addresses, service, messages: Mutex::new(false), stop, sockets, helpers })
    }
}

/// What the server listens by, opened and with its files read.
struct Way {
    oscore: Option<Arc<Mutex<oscore::Server>>>,
    kind: Kind,
}

enum Kind {
    Datagrams { socket: StdSocket, groups: Groups, security: Security },
    Connections { listener: std::net::TcpListener, tls: Acceptor },
}

/// Of datagrams: DTLS or none.
#[cfg(feature = "dtls")]
type Security = Option<Box<crate::dtls::Server>>;
#[cfg(not(feature = "dtls"))]
type Security = ();

impl Way {
    fn open(listen: &Listen, options: &ServeOptions, context: &Context) -> Result<Way> {
        let oscore = options.oscore.open_server(context.state_dir())?;
        let oscore = oscore.map(|server| Arc::new(Mutex::new(server)));
        let tls = match listen.transport.is_secure() && options.tls.is_set() {
            true => Some(ServerTls::open(&options.tls, context.state_dir(), &listen.bind)?),
            false => None,
        };
        if let Some(tls) = &tls {
            tls.announce(context.events());
        }
        let kind = match listen.transport {
            Transport::Udp | Transport::Dtls => {
                let security = security(listen, options, tls)?;
                let socket = enlarge(listen_datagrams(&listen.bind)?);
                let groups = Groups::join(&options.groups()?, &socket)?;
                Kind::Datagrams { socket, groups, security }
            }
            Transport::Tcp | Transport::Tls => {
                let tls = Acceptor::open(options, tls)?;
                Kind::Connections { listener: net::listen(&listen.bind)?, tls }
            }
        };
        Ok(Way { oscore, kind })
    }

    /// Where it listens, and the task that serves.
    fn serve(
        self,
        listen: &Listen,
        options: &ServeOptions,
        service: &Arc<Service>,
        loss: Loss,
        stopping: watch::Receiver<bool>,
    ) -> Result<(SocketAddr, JoinHandle<()>)> {
        let cannot =
            |error| Error::new(ErrorKind::CONNECT, format!("cannot listen on {}: {error}", listen.bind));
        let (scheme, longest) = (listen.transport.scheme(), options.max_size as usize);
        let Way { oscore, kind } = self;
        let desk = {
            let service = Arc::clone(service);
            move || Desk::new(Arc::clone(&service), body_limits(longest), oscore.clone())
        };
        match kind {
            Kind::Datagrams { socket, groups, security } => {
                let local = socket.local_addr().map_err(cannot)?;
                let socket = ServerSocket::new(socket).map_err(cannot)?;
                let groups = groups.listen().map_err(cannot)?;
                let limits = endpoint_limits(options.max_observers as usize);
                let endpoint = Endpoint::new(Parameters::default(), limits);
                let leisure = options.leisure.duration();
                let datagrams = Datagrams::new(endpoint, desk(), scheme, loss, leisure);
                let secured = secured(datagrams, security, service);
                Ok((local, spawn(udp::run(socket, groups, secured, stopping))))
            }
            Kind::Connections { listener, tls } => {
                let local = listener.local_addr().map_err(cannot)?;
                let listener = TcpListener::from_std(listener).map_err(cannot)?;
                let front = Front {
                    service: Arc::clone(service),
                    desk: Box::new(desk),
                    tls,
                    transport: scheme,
                    longest,
                };
                Ok((local, spawn(Arc::new(front).listen(listener, stopping))))
            }
        }
    }
}

#[cfg(feature = "dtls")]
fn security(listen: &Listen, options: &ServeOptions, tls: Option<ServerTls>) -> Result<Security> {
    let secure = listen.transport.is_secure();
    let settings =
        secure.then(|| crate::dtls::ServerSettings::new(&options.psk, tls, Over::Datagrams)).transpose()?;
    settings.map(|settings| crate::dtls::Server::new(settings).map(Box::new)).transpose()
}

#[cfg(not(feature = "dtls"))]
fn security(_: &Listen, _: &ServeOptions, _: Option<ServerTls>) -> Result<Security> {
    Ok(())
}

#[cfg(feature = "dtls")]
fn secured(datagrams: Datagrams, security: Security, service: &Arc<Service>) -> Secured {
    match security {
        Some(dtls) => Secured::dtls(datagrams, *dtls, Arc::clone(service)),
        None => Secured::plain(datagrams),
    }
}

#[cfg(not(feature = "dtls"))]
fn secured(datagrams: Datagrams, (): Security, _: &Arc<Service>) -> Secured {
    Secured::plain(datagrams)
}

fn enlarge(socket: StdSocket) -> StdSocket {
    let socket_ref = SockRef::from(&socket);
    // As far as the system lets us.
    let _ = socket_ref.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket_ref.set_send_buffer_size(SOCKET_BUFFER);
    socket
}

/// So that every observer may have a notification under way.
fn endpoint_limits(observers: usize) -> Limits {
    Limits {
        peers: observers + PEERS,
        outgoing_per_peer: PER_PEER + 64,
        outgoing: observers + PEERS,
        ..Limits::SERVER
    }
}

fn body_limits(largest: usize) -> BodyLimits {
    BodyLimits { longest: largest, bytes: largest.max(8 << 20), ..BodyLimits::default() }
}

async fn check(service: Arc<Service>) {
    loop {
        sleep(CHECK).await;
        service.check(Instant::now());
    }
}

impl Server for CoapServer {
    type Publish = OutgoingOptions;

    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    fn messages(&self) -> Result<Subscription> {
        if std::mem::replace(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner), true) {
            return Err(Error::unsupported("the messages of a server can be read only once"));
        }
        let (sender, subscription) = queue(BATCHES);
        spawn(show::pump(self.service.feed(), sender));
        Ok(subscription)
    }

    /// The topic is the path of a resource, which gets the payload and is made if need be; its observers are told.
    async fn publish(&self, batch: Batch, options: Arc<OutgoingOptions>) -> Result<Vec<Outcome>> {
        let format = options.content_format.as_deref().map(|text| {
            content_format_number(text).ok_or_else(|| {
                Error::config(format!("--content-format {text}: there is no such content format"))
            })
        });
        let format = format.transpose()?;
        Ok(batch.iter().map(|message| self.write(&message, format)).collect())
    }

    async fn close(&self) -> Result<()> {
        self.stop.send_replace(true);
        let sockets = std::mem::take(&mut *self.sockets.lock().unwrap_or_else(PoisonError::into_inner));
        for socket in sockets {
            // A task that does not end is left behind.
            let _ = timeout(GOODBYE, socket).await;
        }
        self.service.feed().close();
        Ok(())
    }
}

impl CoapServer {
    fn write(&self, message: &MessageView<'_>, format: Option<u16>) -> Outcome {
        let topic = message.topic_text();
        if topic.is_empty() {
            return Outcome::refused("name the resource, like /sensors/temp");
        }
        let path = match resource_name(&topic) {
            Ok(path) => path,
            Err(why) => return Outcome::refused(format!("{topic}: {why}")),
        };
        let payload = message.payload_bytes();
        let format = format.or_else(|| self.service.format(&path)).unwrap_or_else(|| guess(&payload));
        match self.service.publish(&path, Representation::new(payload, Some(format))) {
            Ok((written, observers)) => Outcome::sent()
                .details(json!({ "observers": observers, "created": written == Written::Created })),
            Err(why) => Outcome::refused(why),
        }
    }
}
