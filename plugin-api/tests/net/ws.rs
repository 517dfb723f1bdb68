//! WebSocket as a transport: the handshake, and the byte stream over frames.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async, accept_hdr_async};
use tracemq_plugin_api::net::{
    NetError, NetErrorKind, Stream, TlsOptions, WsRequest, WsStream, tls_acceptor,
};

use crate::support::{Pki, dialer, echo, hasty, http_head, listen, round_trip, says, showing, soon};

async fn connect(request: WsRequest<'_>) -> Result<Stream, NetError> {
    soon(dialer(&TlsOptions::default(), None).ws(&request)).await
}

/// A server that does this with each WebSocket.
async fn serve<F, W>(act: F) -> u16
where
    F: Fn(WebSocketStream<TcpStream>) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = Result<(), tokio_tungstenite::tungstenite::Error>> + Send + 'static,
{
    listen(move |tcp| {
        let act = act.clone();
        async move { act(accept_async(tcp).await.map_err(io::Error::other)?).await.map_err(io::Error::other) }
    })
    .await
}

/// A server that answers every request with these bytes.
async fn answering(answer: String) -> u16 {
    listen(move |mut tcp| {
        let answer = answer.clone();
        async move {
            http_head(&mut tcp).await?;
            tcp.write_all(answer.as_bytes()).await?;
            tcp.read_to_end(&mut Vec::new()).await.map(drop)
        }
    })
    .await
}

#[tokio::test]
async fn the_request_says_what_it_was_told_to() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let port = listen(move |tcp| {
        let note = note.clone();
        async move {
            // The type of tungstenite's callback, which can't be made smaller.
            #[allow(clippy::result_large_err)]
            let look = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                let headers = request.headers();
                let all = |name: &str| {
                    headers
                        .get_all(name)
                        .iter()
                        .map(|v| v.to_str().unwrap().to_owned())
                        .collect::<Vec<_>>()
                        .join("+")
                };
                let mut lines = vec![request.uri().to_string()];
                lines.extend(
                    ["host", "sec-websocket-protocol", "authorization", "x-twice", "origin"].map(all),
                );
                note.lock().unwrap().extend(lines);
                response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("mqtt"));
                Ok(response)
            };
            echo(WsStream::new(accept_hdr_async(tcp, look).await.map_err(io::Error::other)?)).await
        }
    })
    .await;
    let headers =
        [("Authorization", "Bearer x"), ("X-Twice", "1"), ("x-twice", "2"), ("Host", "virtual.example")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
    let request = WsRequest {
        path: "mqtt?token=1",
        headers: &headers,
        subprotocol: Some("mqtt"),
        ..WsRequest::new("127.0.0.1", port, false)
    };
    soon(round_trip(connect(request).await.unwrap())).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["/mqtt?token=1", "virtual.example", "mqtt", "Bearer x", "1+2", ""]);
}

#[tokio::test]
async fn headers_and_paths_that_cannot_be_sent_are_refused_before_dialling() {
    for (name, value, part) in [
        ("Bad Name", "x", "\"Bad Name\""),
        ("X-Split", "a\r\nSecret: b", "\"X-Split\""),
        ("Sec-WebSocket-Key", "x", "belongs to the WebSocket handshake"),
        ("Upgrade", "x", "belongs to the WebSocket handshake"),
    ] {
        let headers = [(name.to_owned(), value.to_owned())];
        let error = connect(WsRequest { headers: &headers, ..WsRequest::new("h.invalid", 1, false) })
            .await
            .unwrap_err();
        assert_eq!(error.kind, NetErrorKind::Config, "{error}");
        says(&error, &[part]);
        assert!(!format!("{error:?}").contains("Secret"), "{error:?}");
    }
    let error =
        connect(WsRequest { path: "a b", ..WsRequest::new("h.invalid", 1, false) }).await.unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Config);
    says(&error, &["\"a b\""]);
}

#[tokio::test]
async fn a_megabyte_goes_both_ways_unchanged() {
    let pki = Pki::new();
    let acceptor = tls_acceptor(&showing(&pki.issue("localhost", |_| {})), &[]).unwrap();
    let plain = serve(|ws| async move { echo(WsStream::new(ws)).await.map_err(Into::into) }).await;
    let secure = listen(move |tcp| {
        let acceptor = acceptor.clone();
        async move {
            let ws = accept_async(acceptor.accept(tcp).await?).await.map_err(io::Error::other)?;
            echo(WsStream::new(ws)).await
        }
    })
    .await;
    let sent: Vec<u8> = (0..1_000_003u32).map(|i| (i * 31 % 251) as u8).collect();
    for (port, tls) in [(plain, false), (secure, true)] {
        let dialer = dialer(&pki.trusting(), None);
        let stream = soon(dialer.ws(&WsRequest::new("localhost", port, tls))).await.unwrap();
        assert!(matches!((&stream, tls), (Stream::Ws(_), false) | (Stream::WsTls(_), true)));
        assert_eq!(stream.socket().peer_addr().unwrap().port(), port);
        let (mut read, mut write) = tokio::io::split(stream);
        let mut back = Vec::new();
        let (written, end) = soon(async {
            tokio::join!(
                async {
                    write.write_all(&sent).await?;
                    write.flush().await
                },
                read_n(&mut read, &mut back, sent.len())
            )
        })
        .await;
        written.unwrap();
        end.unwrap();
        assert!(back == sent, "bytes were changed on the way");
    }
}

async fn read_n(read: &mut (impl AsyncReadExt + Unpin), into: &mut Vec<u8>, n: usize) -> io::Result<()> {
    into.resize(n, 0);
    read.read_exact(into).await.map(drop)
}

#[tokio::test]
async fn frames_are_joined_and_pings_answered() {
    let port = serve(|mut ws| async move {
        ws.send(Message::Binary(Bytes::from_static(b"one"))).await?;
        ws.send(Message::Binary(Bytes::new())).await?;
        ws.send(Message::Ping(Bytes::from_static(b"there?"))).await?;
        // Goes on only when the ping was answered.
        while !matches!(ws.next().await, Some(Ok(Message::Pong(p))) if &p[..] == b"there?") {}
        ws.send(Message::Binary(Bytes::from_static(b"two"))).await?;
        ws.close(None).await
    })
    .await;
    let mut stream = connect(WsRequest::new("127.0.0.1", port, false)).await.unwrap();
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"onetwo");
}

#[tokio::test]
async fn ends_of_every_kind_are_told_apart() {
    let close = |code: u16, reason: &'static str| async move {
        let port = serve(move |mut ws| async move {
            ws.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await
        })
        .await;
        let mut stream = connect(WsRequest::new("127.0.0.1", port, false)).await.unwrap();
        soon(stream.read_to_end(&mut Vec::new())).await
    };
    assert_eq!(close(1000, "").await.unwrap(), 0);
    assert_eq!(close(1001, "going down").await.unwrap(), 0);
    let error = close(1008, "no\x07 such user").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(error.to_string(), "the WebSocket was closed with code 1008: no such user");

    let read = |port: u16, max_message: usize| async move {
        let request = WsRequest { max_message, ..WsRequest::new("127.0.0.1", port, false) };
        let mut stream = connect(request).await.unwrap();
        soon(stream.read_to_end(&mut Vec::new())).await.unwrap_err()
    };
    let broken = serve(|ws| async move {
        drop(ws);
        Ok(())
    })
    .await;
    assert_eq!(read(broken, 1024).await.kind(), io::ErrorKind::UnexpectedEof);
    let text = serve(|mut ws| async move { ws.send(Message::text("hi")).await }).await;
    assert!(read(text, 1024).await.to_string().contains("text frame"));
    let huge = serve(|mut ws| async move { ws.send(Message::Binary(vec![0; 1025].into())).await }).await;
    let error = read(huge, 1024).await;
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("over the limit of 1024"), "{error}");
}

#[tokio::test]
async fn shutting_down_sends_a_close_frame() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let port = serve(move |mut ws| {
        let tell = tell.clone();
        async move {
            let mut got = Vec::new();
            while let Some(message) = ws.next().await {
                got.push(message?);
            }
            drop(tell.lock().unwrap().take().unwrap().send(got));
            Ok(())
        }
    })
    .await;
    let mut stream = connect(WsRequest::new("127.0.0.1", port, false)).await.unwrap();
    soon(stream.write_all(b"bye")).await.unwrap();
    soon(stream.shutdown()).await.unwrap();
    let got = soon(told).await.unwrap();
    assert_eq!(got[0], Message::Binary(Bytes::from_static(b"bye")));
    assert!(matches!(got[1], Message::Close(_)), "{got:?}");
    assert_eq!(soon(stream.write(b"more")).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn refusals_are_told_with_status_and_text() {
    use NetErrorKind::{Auth, Handshake};
    let long = format!("HTTP/1.1 503 Service Unavailable\r\n\r\n{}", "x".repeat(900));
    for (answer, kind, permanent, parts) in [
        (
            "HTTP/1.1 404 Not Found\r\n\r\nno \x1b[31msuch\n thing",
            Handshake,
            true,
            ["HTTP 404", ": no [31msuch thing", "check the path"],
        ),
        ("HTTP/1.1 200 OK\r\n\r\n<html>", Handshake, true, ["HTTP 200", "<html>", "check the path"]),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", Auth, true, ["HTTP 401", "/path", "credentials"]),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", Auth, true, ["HTTP 403", "/path", "credentials"]),
        (
            "HTTP/1.1 301 Moved\r\nLocation: wss://else\r\n\r\n",
            Handshake,
            true,
            ["HTTP 301", "see wss://else", ""],
        ),
        (&long, Handshake, false, ["HTTP 503", "xxx…", ""]),
    ] {
        let port = answering(answer.to_owned()).await;
        let request = WsRequest { path: "/path?token=secret", ..WsRequest::new("127.0.0.1", port, false) };
        let error = connect(request).await.expect_err(answer);
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert_eq!((error.kind, error.permanent), (kind, permanent), "{error}");
        says(&error, &[&format!("127.0.0.1:{port} refused the WebSocket connection to /path: ")]);
        says(&error, &parts);
    }
}

#[tokio::test]
async fn what_is_no_websocket_is_found_out() {
    for answer in [
        "220 mail.example ESMTP\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let port = answering(answer.to_owned()).await;
        let error = connect(WsRequest::new("127.0.0.1", port, false)).await.expect_err(answer);
        assert_eq!(error.kind, NetErrorKind::Handshake, "{error}");
        says(&error, &[&format!("127.0.0.1:{port}"), "WebSocket port"]);
    }
    let port = listen(|mut tcp| async move { tcp.read(&mut [0; 1]).await.map(drop) }).await;
    let error = connect(WsRequest::new("127.0.0.1", port, false)).await.unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Handshake, "{error}");
    let port = listen(|mut tcp| async move { tcp.read_to_end(&mut Vec::new()).await.map(drop) }).await;
    let error = soon(hasty(None).ws(&WsRequest::new("127.0.0.1", port, false))).await.unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Timeout);
    says(&error, &["WebSocket handshake within 300ms"]);
}

#[tokio::test]
async fn a_server_without_the_subprotocol_is_refused() {
    let port = serve(|ws| async move { echo(WsStream::new(ws)).await.map_err(Into::into) }).await;
    let request = WsRequest { subprotocol: Some("mqtt"), ..WsRequest::new("127.0.0.1", port, false) };
    let error = connect(request).await.unwrap_err();
    assert_eq!((error.kind, error.permanent), (NetErrorKind::Handshake, true));
    says(&error, &["does not take the WebSocket subprotocol \"mqtt\""]);
}

#[tokio::test]
async fn a_client_certificate_that_wss_wants_is_told() {
    let pki = Pki::new();
    let options = tracemq_plugin_api::net::ServerTlsOptions {
        tls_ca: Some(pki.ca()),
        ..showing(&pki.issue("localhost", |_| {}))
    };
    let acceptor = tls_acceptor(&options, &[]).unwrap();
    let port = listen(move |tcp| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(tcp).await.map(drop) }
    })
    .await;
    let dialer = dialer(&pki.trusting(), None);
    let error = soon(dialer.ws(&WsRequest::new("localhost", port, true))).await.unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Tls, "{error}");
    says(&error, &["requires a client certificate", "--tls-cert"]);
}

#[tokio::test]
async fn the_body_of_a_refusal_is_shown_though_it_comes_later() {
    let port = listen(|mut tcp| async move {
        http_head(&mut tcp).await?;
        tcp.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 24\r\n\r\n").await?;
        tcp.flush().await?;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        tcp.write_all(b"come back after midnight").await?;
        tcp.read_to_end(&mut Vec::new()).await.map(drop)
    })
    .await;
    let error = connect(WsRequest::new("127.0.0.1", port, false)).await.unwrap_err();
    says(&error, &["503", "come back after midnight"]);
}

#[tokio::test]
async fn what_comes_along_with_the_handshake_belongs_to_the_frames() {
    let port = listen(|mut tcp| async move {
        let head = http_head(&mut tcp).await?;
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap().to_owned();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
             Sec-WebSocket-Extensions: x; y=1\r\n\r\n"
        );
        // The answer and a frame of two bytes, in one segment.
        tcp.write_all(&[answer.as_bytes(), b"\x82\x02hi"].concat()).await?;
        tcp.read_to_end(&mut Vec::new()).await.map(drop)
    })
    .await;
    let request = WsRequest::new("127.0.0.1", port, false);
    let dialer = dialer(&TlsOptions::default(), None);
    let mut upgraded = soon(dialer.ws_upgrade(&request, Some("x"))).await.unwrap();
    assert_eq!(upgraded.extensions.as_deref(), Some("x; y=1"));
    let mut frame = upgraded.rest.to_vec();
    while frame.len() < 4 {
        soon(upgraded.stream.read_buf(&mut frame)).await.unwrap();
    }
    assert_eq!(frame, b"\x82\x02hi");
    // Nobody asked for an extension here.
    let error = connect(request).await.unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Handshake);
    says(&error, &["extension", "x; y=1"]);
}
