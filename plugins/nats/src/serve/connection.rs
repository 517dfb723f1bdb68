//! A client's connection: INFO, TLS, then a reader and a writer that know nothing of each other.
//!
//! The reader deals with whole reads; the writer sends whole buffers. Each has a task of its own, so that a client that
//! publishes and is written to at once uses both threads.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tracemq_plugin_api::net::explain_client;
use tracemq_plugin_api::sdk::{Event, EventKind};
use tracemq_plugin_api::serde_json;

use super::client::Client;
use super::feed::Block;
use super::outbox::Work;
use super::session::Session;
use super::shared::Shared;

/// How much is read at once.
const READ: usize = 128 * 1024;
/// Less room than this is not worth a read.
const LEAST_ROOM: usize = READ / 4;
/// Reads up to this size are copied for the host, so that a few messages don't keep a whole buffer.
const COPIED: usize = READ / 4;
/// How long TLS and CONNECT may take.
const LOGIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client that was told why it has to go may take to read that, and may go on sending.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Serves a client until it is gone.
pub async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let result = match shared.admit(peer) {
        Ok(client) => {
            let result = greet(&shared, &client, stream).await;
            shared.dismiss(&client);
            result
        }
        Err(client) => {
            shared.refused(&client, "connection", None, "there are as many connections as there may be");
            turn_away(&shared, &client, stream).await
        }
    };
    if let Err(error) = result {
        log::debug!("connection from {peer}: {error}");
    }
}

/// Says that there are too many connections.
async fn turn_away(shared: &Shared, client: &Client, mut stream: TcpStream) -> io::Result<()> {
    let text = format!("{}-ERR 'maximum connections exceeded'\r\n", shared.info(client));
    timeout(GOODBYE_PATIENCE, stream.write_all(text.as_bytes())).await??;
    linger(&mut stream).await
}

async fn greet(shared: &Arc<Shared>, client: &Arc<Client>, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let deadline = Instant::now() + LOGIN_PATIENCE;
    timeout(LOGIN_PATIENCE, stream.write_all(shared.info(client).as_bytes())).await??;
    let Some(tls) = &shared.tls else {
        let (reader, writer) = stream.into_split();
        return run(shared, client, reader, writer, deadline).await;
    };
    let mut first = [0];
    if timeout(LOGIN_PATIENCE, stream.peek(&mut first)).await?? == 0 {
        return Ok(());
    }
    if first[0] != TLS_HANDSHAKE {
        shared.refused(client, "connection", None, "it does not speak TLS");
        let text = b"-ERR 'Secure Connection - TLS Required'\r\n";
        timeout(GOODBYE_PATIENCE, stream.write_all(text)).await??;
        return linger(&mut stream).await;
    }
    match timeout(LOGIN_PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let (reader, writer) = tokio::io::split(stream);
            run(shared, client, reader, writer, deadline).await
        }
        Ok(Err(error)) => {
            shared.refused(client, "connection", None, &explain_client(&error));
            Err(error)
        }
        Err(late) => {
            shared.refused(client, "connection", None, "TLS: the handshake took too long");
            Err(late.into())
        }
    }
}

async fn run<R, W>(
    shared: &Arc<Shared>,
    client: &Arc<Client>,
    mut reader: R,
    writer: W,
    deadline: Instant,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let mut session = Session::new(Arc::clone(shared), Arc::clone(client));
    let mut writing = tokio::spawn(write(Arc::clone(client), writer, shared.limits.write_deadline));
    let result = read(shared, client, &mut session, &mut reader, deadline).await;
    // Nothing more is to come for it.
    shared.dismiss(client);
    if session.was_announced() {
        let reason = client.reason().unwrap_or_else(|| match &result {
            Ok(()) => "it closed the connection".to_owned(),
            Err(error) => format!("the connection was lost: {error}"),
        });
        let text = format!("{client} disconnected: {reason}");
        let details = json!({"client": client.id, "peer": client.peer.to_string(), "reason": reason});
        shared.events.emit(Event::new(EventKind::CLIENT_DISCONNECTED, text).details(details));
    }
    client.outbox.finish();
    let patience = if client.outbox.is_closed() { Duration::ZERO } else { GOODBYE_PATIENCE };
    if timeout(patience, &mut writing).await.is_err() {
        writing.abort();
    } else if result.is_ok() {
        linger(&mut reader).await?;
    }
    client.outbox.close();
    result
}

/// Reads until the client closes, fails, or is ended by somebody.
async fn read<R: AsyncRead + Unpin>(
    shared: &Shared,
    client: &Client,
    session: &mut Session,
    reader: &mut R,
    deadline: Instant,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ);
    let mut wanted = 0_usize;
    loop {
        let missing = wanted.saturating_sub(buffer.len());
        if buffer.capacity() - buffer.len() < LEAST_ROOM.max(missing) {
            buffer.reserve(READ.max(missing));
        }
        let count = tokio::select! {
            biased;
            () = client.ending() => return Ok(()),
            count = reader.read_buf(&mut buffer) => count?,
            () = sleep_until(deadline), if session.awaits_login() => {
                client.end(Some("Authentication Timeout"), "it did not log in in time");
                shared.refused(client, "login", None, "no CONNECT came in time");
                return Ok(());
            }
        };
        if count == 0 {
            return Ok(());
        }
        client.heard.store(true, Ordering::Relaxed);
        if buffer.len() < wanted {
            continue;
        }
        let progress = session.process(&buffer);
        let messages = session.take_messages();
        let done = buffer.split_to(progress.consumed);
        if !messages.is_empty() {
            let bytes = if done.len() > COPIED { done.freeze() } else { Bytes::copy_from_slice(&done) };
            shared.feed.push(Block::new(bytes, messages, client.id));
        }
        wanted = progress.wanted.saturating_sub(progress.consumed);
        if progress.ended {
            return Ok(());
        }
        session.router().settle().await;
    }
}

/// Writes what is put into the client's outbox.
async fn write<W: AsyncWrite + Unpin>(client: Arc<Client>, mut writer: W, deadline: Duration) {
    let mut buffer = Vec::new();
    loop {
        match client.outbox.take(&mut buffer) {
            Work::Wait => client.outbox.ready().await,
            Work::End => break,
            Work::Write => {
                if let Err(reason) = write_all(&client, &mut writer, &buffer, deadline).await {
                    client.cut(reason);
                    return;
                }
                buffer.clear();
            }
        }
    }
    // The client may be gone already.
    let _ = timeout(GOODBYE_PATIENCE, writer.shutdown()).await;
}

/// The error is why the client can't be written to any more.
async fn write_all<W: AsyncWrite + Unpin>(
    client: &Client,
    writer: &mut W,
    mut rest: &[u8],
    deadline: Duration,
) -> Result<(), String> {
    let lost = |error: io::Error| format!("the connection was lost: {error}");
    let stuck = |waiting: usize| {
        format!("slow consumer: it read nothing for {deadline:?} while {waiting} bytes or more were waiting")
    };
    while !rest.is_empty() {
        let count = match timeout(deadline, writer.write(rest)).await {
            Ok(Ok(0)) => return Err(lost(io::ErrorKind::WriteZero.into())),
            Ok(Ok(count)) => count,
            Ok(Err(error)) => return Err(lost(error)),
            Err(_) => return Err(stuck(rest.len())),
        };
        client.outbox.wrote(count);
        rest = &rest[count..];
    }
    match timeout(deadline, writer.flush()).await {
        Ok(flushed) => flushed.map_err(lost),
        Err(_) => Err(stuck(0)),
    }
}

/// Reads on into the void: closing while the client still sends would reset the connection, and lose what it was told.
async fn linger<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<()> {
    let mut void = vec![0; 16 * 1024];
    let all = async {
        while reader.read(&mut void).await? > 0 {}
        Ok(())
    };
    timeout(GOODBYE_PATIENCE, all).await.unwrap_or(Ok(()))
}
