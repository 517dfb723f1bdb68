//! With tungstenite on top and the handshakes that the plugin uses: the two ends of a connection, and a server that answers
//! and speaks in one breath.

use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use tracemq_plugin_api::net::{Dialer, NetOptions, Stream, WsRequest};
use tracemq_websocket::deflate::{self, DeflateError, EXTENSIONS, MessageSize, Options, Params, Transport};

const LIMIT: Duration = Duration::from_secs(30);

fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(1 << 20))
}

async fn connect(listener: &TcpListener, offer: Option<&Options>) -> WebSocketStream<Transport<Stream>> {
    let port = listener.local_addr().expect("an address").port();
    let request = WsRequest::new("127.0.0.1", port, false);
    let dialer = Dialer::from_options(&NetOptions::default()).expect("a dialer");
    let offered = offer.map(Options::offer);
    let opened = dialer.ws_upgrade(&request, offered.as_deref()).await.expect("the handshake");
    let params =
        offer.and_then(|options| options.check(opened.extensions.as_deref()).expect("an answer that fits"));
    deflate::open(opened.stream, opened.rest, Role::Client, params.as_ref(), config()).await
}

async fn accept(listener: &TcpListener) -> WebSocketStream<Transport<TcpStream>> {
    let (socket, _) = listener.accept().await.expect("a client");
    let mut params: Option<Params> = None;
    #[expect(clippy::result_large_err, reason = "the signature is the library's")]
    let negotiate = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        if let Some((agreed, answer)) = Options::default().accept(request.headers()) {
            response.headers_mut().insert(EXTENSIONS, answer);
            params = Some(agreed);
        }
        Ok(response)
    };
    let early = accept_hdr_async_with_config(socket, negotiate, Some(config())).await.expect("the handshake");
    deflate::open(early.into_inner(), [], Role::Server, params.as_ref(), config()).await
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

#[tokio::test]
async fn messages_are_echoed_with_compression() {
    let listener = listener().await;
    let server = async {
        let mut socket = accept(&listener).await;
        while let Some(Ok(message)) = socket.next().await {
            if !message.is_close() {
                socket.send(message).await.expect("echoed");
            }
        }
    };
    let client = async {
        let options = Options::default();
        let mut socket = connect(&listener, Some(&options)).await;
        let sizes = socket.get_ref().sizes().expect("compression");
        let (mut sent, mut received): (Vec<MessageSize>, Vec<MessageSize>) = Default::default();
        for count in [0, 1, 700, 80_000] {
            let text = "compress me ".repeat(count);
            socket.send(Message::text(text.clone())).await.expect("sent");
            let answer = socket.next().await.expect("a message").expect("no error");
            assert!(answer == Message::text(text), "the echo of {count}");
            sent.extend(sizes.take_sent());
            received.extend(sizes.take_received());
        }
        socket.close(None).await.expect("closed");
        while let Some(Ok(_)) = socket.next().await {}
        assert_eq!(sent.iter().map(|size| size.plain).collect::<Vec<_>>(), [0, 12, 8400, 960_000]);
        assert!(sent[3].compressed.is_some_and(|compressed| compressed < 10_000));
        assert_eq!(sent, received, "both ends compress alike");
        assert_eq!((sizes.take_sent(), sizes.take_received()), (None, None));
    };
    timeout(LIMIT, async { tokio::join!(server, client) }).await.expect("in time");
}

#[tokio::test]
async fn without_an_offer_the_adapter_is_not_there() {
    let listener = listener().await;
    let both = async { tokio::join!(accept(&listener), connect(&listener, None)) };
    let (server, client) = timeout(LIMIT, both).await.expect("in time");
    assert!(matches!(client.get_ref(), Transport::Plain(..)));
    assert!(matches!(server.get_ref(), Transport::Plain(..)));
}

const AGREED: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// A server of nothing but bytes: the answer and what follows it are one write. And its client.
async fn answered(extension: &str, frames: &[u8]) -> (WebSocketStream<Transport<Stream>>, TcpStream) {
    let listener = listener().await;
    let server = async {
        let (mut socket, _) = listener.accept().await.expect("a client");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.expect("a request"));
        }
        let request = String::from_utf8(request).expect("ASCII");
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
        let accept = derive_accept_key(key.as_bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{extension}\r\n"
        );
        socket.write_all(&[head.as_bytes(), frames].concat()).await.expect("answered");
        socket
    };
    let options = Options::default();
    let both = async { tokio::join!(connect(&listener, Some(&options)), server) };
    timeout(LIMIT, both).await.expect("in time")
}

#[tokio::test]
async fn frames_in_the_segment_of_the_answer_are_not_lost() {
    let hello = [0xc1, 7, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let plain = [0x81, 5, b'H', b'e', b'l', b'l', b'o'];
    for (extension, frame) in [(AGREED, &hello[..]), ("", &plain[..])] {
        let (mut socket, _server) = answered(extension, frame).await;
        let message = timeout(LIMIT, socket.next()).await.expect("in time").expect("a message");
        assert_eq!(message.expect("no error"), Message::text("Hello"));
    }
}

#[tokio::test]
async fn errors_are_told_as_what_they_are_and_the_peer_can_be_told_too() {
    let (mut socket, mut server) = answered(AGREED, &[0xc1, 2, 0x06, 0x00]).await;
    let error = timeout(LIMIT, socket.next()).await.expect("in time").expect("an error");
    match error.expect_err("wrong data") {
        Error::Io(error) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<DeflateError>());
            assert_eq!(inner, Some(&DeflateError::Invalid));
        }
        other => panic!("{other:?}"),
    }
    socket.close(None).await.expect("a close frame still goes out");
    let mut close = [0; 2];
    timeout(LIMIT, server.read_exact(&mut close)).await.expect("in time").expect("a frame");
    assert_eq!(close, [0x88, 0x80], "a masked close frame");
}

#[tokio::test]
async fn a_message_over_the_limit_is_told_as_without_compression() {
    // A stored block of almost 64 KiB of zeroes, 17 times: more than the megabyte that is allowed.
    let mut stored = vec![0x00, 0xff, 0xff, 0x00, 0x00];
    stored.resize(5 + 0xffff, 0);
    let payload = stored.repeat(17);
    let mut frame = vec![0xc2, 127];
    frame.extend((payload.len() as u64).to_be_bytes());
    let (mut socket, mut server) = answered(AGREED, &frame).await;
    let writes = async {
        // It may be cut off when it has been found too large.
        let _ = server.write_all(&payload).await;
    };
    let reads = async { socket.next().await.expect("an error").expect_err("too large") };
    let (error, ()) = timeout(LIMIT, async { tokio::join!(reads, writes) }).await.expect("in time");
    assert!(matches!(error, Error::Capacity(CapacityError::MessageTooLong { .. })), "{error:?}");
}
