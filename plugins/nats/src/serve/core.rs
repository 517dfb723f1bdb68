//! A running server: one thread that owns a runtime, so that stopping it means ending that, with all connections.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tracemq_plugin_api::net::{ServerTls, accept, listen};
use tracemq_plugin_api::prelude::{Error, ErrorKind, Result};
use tracemq_plugin_api::sdk::{Events, MessageView};

use super::connection;
use super::feed::Feed;
use super::options::{DEFAULT_BIND, ServeOptions};
use super::parse::{Op, Publish, Step, parse};
use super::router::{Publisher, Router};
use super::shared::{Auth, Shared};
use crate::wire::{encode_headers, subject};

/// Threads that serve clients.
const WORKERS: usize = 2;
/// How long the end may take.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Pings that may go unanswered, as in nats-server.
const MAX_UNANSWERED: u32 = 2;

/// A running server. It stops when dropped.
pub struct Core {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// The host as a publisher.
    inside: Mutex<Inside>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Inside {
    router: Router,
    buffer: BytesMut,
}

impl Core {
    /// Clients can connect when this returns. Waits for a few milliseconds.
    ///
    /// # Errors
    /// A bad option or file (config), an address that cannot be listened on (connect).
    pub fn start(options: &ServeOptions, events: Events, state_dir: Option<&Path>) -> Result<Core> {
        let limits = options.limits()?;
        let auth = Auth::new(&options.users()?, options.token.as_deref())?;
        let bind = options.bind.as_deref().unwrap_or(DEFAULT_BIND);
        let secured =
            options.tls.is_set().then(|| ServerTls::open(&options.tls, state_dir, bind)).transpose()?;
        // TLS agrees to no protocol name: agreeing to some would shut out clients that offer only others.
        let tls = secured.as_ref().map(|tls| tls.acceptor(&[])).transpose()?;
        let system =
            |error: io::Error| Error::new(ErrorKind::CONNECT, format!("cannot start the server: {error}"));
        let listener = listen(bind)?;
        let address = listener.local_addr().map_err(system)?;
        if let Some(tls) = &secured {
            tls.announce(&events);
        }
        let verify = options.tls.demands_certificate();
        let shared = Arc::new(Shared::new(address, limits, auth, tls, verify, events));
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::sync_channel(1);
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("nats-server".to_owned())
                .spawn(move || run(&shared, listener, &ready, stopped))
                .map_err(system)?
        };
        started.recv().map_err(|_| closed())?.map_err(system)?;
        let router = Router::new(Arc::clone(&shared.routes), 0);
        Ok(Core {
            address,
            shared,
            inside: Mutex::new(Inside { router, buffer: BytesMut::new() }),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where clients connect to.
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "tls" } else { "nats" };
        format!("{scheme}://{}", self.address)
    }

    /// What clients publish.
    pub fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.shared.feed)
    }

    /// Publishes a message to all subscribers, from inside.
    ///
    /// # Errors
    /// Why it is refused, in words.
    pub async fn publish(
        &self,
        message: &MessageView<'_>,
        reply: Option<&[u8]>,
    ) -> std::result::Result<(), String> {
        let topic = message.topic();
        for (what, text) in [("subject", Some(topic)), ("reply subject", reply)] {
            if text.is_some_and(|text| !subject::is_valid(text, false)) {
                return Err(format!(
                    "the {what} is not valid: tokens with dots between them, no spaces, no wildcards"
                ));
            }
        }
        let mut inside = self.inside.lock().await;
        let Inside { router, buffer } = &mut *inside;
        buffer.clear();
        let mut headers = BytesMut::new();
        if message.headers().len() > 0 {
            for (name, value) in message.headers() {
                crate::wire::check_name(name)
                    .and_then(|()| crate::wire::check_value(value))
                    .map_err(|error| error.to_string())?;
            }
            encode_headers(message.headers(), &mut headers);
        }
        let payload = message.payload();
        let total = headers.len() + payload.len();
        if total > self.shared.limits.max_payload {
            return Err(format!("its {total} bytes are more than --max-payload allows"));
        }
        let sizes = if headers.is_empty() { total.to_string() } else { format!("{} {total}", headers.len()) };
        let name: &[u8] = if headers.is_empty() { b"PUB " } else { b"HPUB " };
        let blank: &[u8] = if reply.is_some() { b" " } else { b"" };
        for part in [
            name,
            topic,
            b" ",
            reply.unwrap_or_default(),
            blank,
            sizes.as_bytes(),
            b"\r\n",
            &headers,
            payload,
            b"\r\n",
        ] {
            buffer.extend_from_slice(part);
        }
        let Ok(Step::Op(Op::Publish(publish), _)) = parse(buffer, 0, total) else {
            return Err("the subject is too long".to_owned());
        };
        let nobody = &mut |_: &Publish| {};
        let from = Publisher { id: 0, echo: true };
        router.publish(from, buffer, publish, nobody);
        router.flush(from, buffer, nobody);
        router.wake();
        router.settle().await;
        Ok(())
    }
}

pub fn closed() -> Error {
    Error::new(ErrorKind::CLOSED, "the server has been stopped; start it again")
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the server's thread panicked");
        }
    }
}

/// The server's thread: runs until told to stop, or until the handle is gone.
fn run(
    shared: &Arc<Shared>,
    listener: StdListener,
    ready: &mpsc::SyncSender<io::Result<()>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("nats-server")
        .enable_all()
        .build()
        .and_then(|runtime| {
            let listener = {
                let _inside = runtime.enter();
                TcpListener::from_std(listener)?
            };
            Ok((runtime, listener))
        });
    let (runtime, listener) = match runtime {
        Ok(made) => made,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.spawn(take_in(Arc::clone(shared), listener));
    runtime.spawn(ping(Arc::clone(shared)));
    if ready.send(Ok(())).is_ok() {
        // An error means that the handle is gone, which is a stop as well.
        let _ = runtime.block_on(stopped);
    }
    runtime.shutdown_timeout(STOP_PATIENCE);
    // Breaks the circles of clients and their subscriptions.
    let clients: Vec<_> = shared.clients().values().cloned().collect();
    for client in clients {
        shared.dismiss(&client);
    }
    shared.feed.close();
}

/// Takes in clients for ever; ends with the runtime.
async fn take_in(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let (stream, peer) = accept(&listener).await;
        drop(tokio::spawn(connection::serve(Arc::clone(&shared), stream, peer)));
    }
}

/// Pings silent clients and ends those that don't answer; ends with the runtime.
async fn ping(shared: Arc<Shared>) {
    let mut ticks = interval(shared.limits.ping_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let clients: Vec<_> = shared.clients().values().cloned().collect();
        for client in clients {
            if client.is_stale(MAX_UNANSWERED) {
                client.end(Some("Stale Connection"), "stale connection: it left pings unanswered");
            }
        }
    }
}
