//! A logged-in connection for async-nats, which can't be given one.
//!
//! It knows neither proxies, nor headers of a WebSocket handshake, nor our ways of giving keys, and its errors would be others. So
//! it connects to a port on loopback, with a token that nobody else knows, and what it says is passed on over connections that
//! are dialled and logged in as all others of the plugin are.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::spawn;

use super::dial::{Dial, Opened};
use super::nuid;
use super::pool::Pool;
use crate::config::Settings;
use crate::wire::ServerInfo;

/// How long a client on loopback may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest CONNECT that is read.
const LONGEST: usize = 8192;

/// The port. It is closed with this.
pub(crate) struct Gateway {
    pub(crate) url: String,
    pub(crate) token: String,
    task: JoinHandle<()>,
}

struct Upstream {
    dial: Dial,
    pool: Pool,
    info: ServerInfo,
    /// Opened and not yet used.
    ready: Option<Opened>,
    events: Events,
    reconnect: bool,
}

impl Gateway {
    /// Makes the first connection, and listens for async-nats.
    pub(crate) async fn open(settings: Settings, events: Events, reconnect: bool) -> Result<Gateway> {
        let pool = Pool::new(settings.servers.clone());
        let dial = Dial::new(settings)?;
        let mut upstream =
            Upstream { dial, pool, info: ServerInfo::default(), ready: None, events, reconnect };
        let opened = upstream.connect().await?;
        upstream.ready = Some(opened);
        let failed =
            |error| Error::new(ErrorKind::OTHER, format!("a port on loopback can't be opened: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let url = format!("nats://{}", listener.local_addr().map_err(failed)?);
        let token = nuid();
        let task = spawn(accept(listener, token.clone(), Arc::new(Mutex::new(upstream))));
        Ok(Gateway { url, token, task })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, token: String, upstream: Arc<Mutex<Upstream>>) {
    // One after the other: there is one client, and whoever else comes has to wait and is sent away.
    while let Ok((client, _)) = listener.accept().await {
        serve(client, &token, &upstream).await;
    }
}

/// Serves one client of ours until either end is closed.
async fn serve(mut client: TcpStream, token: &str, upstream: &Mutex<Upstream>) {
    let greeting = upstream.lock().await.greeting();
    let rest = match tokio::time::timeout(PATIENCE, login(&mut client, &greeting, token)).await {
        Ok(Ok(rest)) => rest,
        // Somebody else, or nobody any more.
        Ok(Err(_)) | Err(_) => return,
    };
    let opened = match upstream.lock().await.next().await {
        Ok(opened) => opened,
        Err(error) => return log::debug!("no connection for JetStream: {error}"),
    };
    let (stream, early) = opened.link.into_parts();
    let (mut from_server, mut to_server) = tokio::io::split(stream);
    let (mut from_client, mut to_client) = client.split();
    let passed = async {
        to_client.write_all(&early).await?;
        to_server.write_all(&rest).await?;
        to_server.flush().await?;
        // async-nats keeps a connection that was closed until it has another: the end of either is the end of both.
        tokio::select! {
            copied = copy(&mut from_client, &mut to_server) => copied,
            copied = copy(&mut from_server, &mut to_client) => copied,
        }
    };
    if let Err(error) = passed.await {
        log::debug!("the connection for JetStream ended: {error}");
    }
}

/// Greets as a server, and returns what follows the CONNECT of a client that knows the token.
async fn login(client: &mut TcpStream, greeting: &str, token: &str) -> std::io::Result<BytesMut> {
    client.set_nodelay(true)?;
    client.write_all(greeting.as_bytes()).await?;
    let mut input = BytesMut::new();
    let end = loop {
        if let Some(end) = memchr::memchr(b'\n', &input) {
            break end;
        }
        if input.len() > LONGEST || client.read_buf(&mut input).await? == 0 {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    };
    let line = input.split_to(end + 1);
    let fields = line.strip_prefix(b"CONNECT ").and_then(|json| serde_json::from_slice(json).ok());
    match fields.as_ref().and_then(|fields: &serde_json::Value| fields["auth_token"].as_str()) {
        Some(given) if given == token => Ok(input),
        _ => Err(std::io::ErrorKind::PermissionDenied.into()),
    }
}

impl Upstream {
    /// INFO as the server would give it to a client that has only to show the token.
    fn greeting(&self) -> String {
        let ServerInfo { server_id, server_name, version, headers, max_payload, jetstream, .. } = &self.info;
        let info = serde_json::json!({
            "server_id": server_id, "server_name": server_name, "version": version, "headers": headers,
            "max_payload": max_payload, "jetstream": jetstream, "proto": 1, "auth_required": true,
        });
        format!("INFO {info}\r\n")
    }

    async fn next(&mut self) -> Result<Opened> {
        match self.ready.take() {
            Some(opened) => Ok(opened),
            None if !self.reconnect => Err(Error::new(ErrorKind::CLOSED, "the connection was lost")),
            None => self.connect().await,
        }
    }

    /// Tries each server once.
    async fn connect(&mut self) -> Result<Opened> {
        let mut last = None;
        for _ in 0..self.pool.len() {
            let server = self.pool.next();
            match self.dial.connect(&server).await {
                Ok(opened) => {
                    self.pool.good();
                    self.pool.learn(&server, &opened.info);
                    self.info = opened.info.clone();
                    return Ok(opened);
                }
                Err(error) if error.is_temporary() => {
                    log::debug!("{error}; trying the next server");
                    last = Some(error);
                }
                Err(error) => {
                    let text = format!("no other connection for JetStream: {error}");
                    self.events.emit(Event::new(EventKind::WARNING, text));
                    return Err(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::CONNECT, "there is no server to connect to")))
    }
}
