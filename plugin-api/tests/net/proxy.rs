//! Through SOCKS5 and HTTP proxies, which the tests play themselves.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracemq_plugin_api::net::{NetError, NetErrorKind, TlsOptions, WsRequest};

use crate::support::{
    Pki, closed_port, dialer, echo, hasty, http_head, listen, round_trip, says, showing, soon, tls_echo,
};

/// A SOCKS5 proxy. Wants `user` and `pass` when `auth`; connects every name to loopback; answers `reply`; notes the
/// address types and names it was asked for.
async fn socks5(auth: bool, reply: u8, asked: Arc<Mutex<Vec<(u8, String)>>>) -> u16 {
    listen(move |mut tcp| {
        let asked = asked.clone();
        async move {
            let mut head = [0; 2];
            tcp.read_exact(&mut head).await?;
            let mut methods = vec![0; head[1].into()];
            tcp.read_exact(&mut methods).await?;
            let method = if auth { 2 } else { 0 };
            if !methods.contains(&method) {
                return tcp.write_all(&[5, 0xff]).await;
            }
            tcp.write_all(&[5, method]).await?;
            if auth {
                tcp.read_u8().await?;
                let (user, pass) = (short(&mut tcp).await?, short(&mut tcp).await?);
                let good = user == "user" && pass == "p@ss";
                tcp.write_all(&[1, u8::from(!good)]).await?;
                if !good {
                    return Ok(());
                }
            }
            let mut request = [0; 4];
            tcp.read_exact(&mut request).await?;
            let host = match request[3] {
                1 => {
                    let mut ip = [0; 4];
                    tcp.read_exact(&mut ip).await?;
                    std::net::Ipv4Addr::from(ip).to_string()
                }
                _ => short(&mut tcp).await?,
            };
            asked.lock().unwrap().push((request[3], host));
            let port = tcp.read_u16().await?;
            tcp.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            match reply {
                0 => join(tcp, port).await,
                _ => Ok(()),
            }
        }
    })
    .await
}

/// A text with its length before it.
async fn short(tcp: &mut TcpStream) -> io::Result<String> {
    let mut text = vec![0; tcp.read_u8().await?.into()];
    tcp.read_exact(&mut text).await?;
    Ok(String::from_utf8(text).unwrap())
}

async fn join(mut tcp: TcpStream, port: u16) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    tokio::io::copy_bidirectional(&mut tcp, &mut server).await.map(drop)
}

/// An HTTP proxy that gives this answer to every CONNECT, and goes on when it is a 200.
async fn http(answer: &'static str, requests: Arc<Mutex<Vec<String>>>) -> u16 {
    listen(move |mut tcp| {
        let requests = requests.clone();
        async move {
            let head = http_head(&mut tcp).await?;
            let port = head.split([' ', ':']).nth(2).unwrap().parse().unwrap();
            requests.lock().unwrap().push(head);
            tcp.write_all(answer.as_bytes()).await?;
            match answer.contains(" 200") {
                true => join(tcp, port).await,
                false => Ok(()),
            }
        }
    })
    .await
}

async fn through(proxy: String, host: &str, port: u16) -> Result<(), NetError> {
    let stream = soon(dialer(&TlsOptions::default(), Some(proxy)).tcp(host, port)).await?;
    soon(round_trip(stream)).await.unwrap();
    Ok(())
}

#[track_caller]
fn fails(outcome: Result<(), NetError>, kind: NetErrorKind, parts: &[&str]) {
    let error = outcome.expect_err("the proxy's refusal was not seen");
    assert_eq!(error.kind, kind, "{error}");
    says(&error, parts);
    assert!(!format!("{error:?}").contains("wrong-secret"), "{error:?}");
}

#[tokio::test]
async fn socks5_carries_names_unresolved() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let proxy = socks5(false, 0, asked.clone()).await;
    let port = listen(echo).await;
    through(format!("socks5://127.0.0.1:{proxy}"), "only-there.invalid", port).await.unwrap();
    through(format!("socks5h://localhost:{proxy}"), "127.0.0.1", port).await.unwrap();
    // A user that nobody asks for does no harm.
    through(format!("socks5://user:pw@127.0.0.1:{proxy}"), "127.0.0.1", port).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked[..2], [(3, "only-there.invalid".to_owned()), (1, "127.0.0.1".to_owned())]);
}

#[tokio::test]
async fn socks5_logs_in_and_says_when_it_is_refused() {
    use NetErrorKind::Auth;
    let proxy = socks5(true, 0, Arc::default()).await;
    let port = listen(echo).await;
    let at = format!("127.0.0.1:{proxy}");
    through(format!("socks5://user:p%40ss@{at}"), "a", port).await.unwrap();
    fails(
        through(format!("socks5://user:wrong-secret@{at}"), "a", port).await,
        Auth,
        &[&at, "refused the user"],
    );
    fails(through(format!("socks5://{at}"), "a", port).await, Auth, &[&at, "wants a user", "--proxy"]);
}

#[tokio::test]
async fn socks5_replies_are_told() {
    for (reply, text) in [(2, "not allowed"), (4, "unreachable"), (5, "refused")] {
        let proxy = socks5(false, reply, Arc::default()).await;
        let outcome = through(format!("socks5://127.0.0.1:{proxy}"), "far.example", 77).await;
        let at = format!("the proxy 127.0.0.1:{proxy} could not connect to far.example:77");
        let error = outcome.expect_err("a refusal");
        assert_eq!(error.kind, NetErrorKind::Proxy);
        says(&error, &[&at]);
        assert!(error.message.to_lowercase().contains(text), "{error}");
    }
}

#[tokio::test]
async fn http_connect_leaves_what_follows_its_answer_to_the_tunnel() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    // The first bytes of the tunnel stand in the same segment as the answer.
    let proxy = http("HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\nINFO", requests.clone()).await;
    let port = listen(echo).await;
    let dialer = dialer(&TlsOptions::default(), Some(format!("http://us%65r:p%3Ass@127.0.0.1:{proxy}")));
    let mut stream = soon(dialer.tcp("only-there.invalid", port)).await.unwrap();
    let mut info = [0; 4];
    soon(stream.read_exact(&mut info)).await.unwrap();
    assert_eq!(&info, b"INFO");
    soon(round_trip(stream)).await.unwrap();
    let request = requests.lock().unwrap()[0].clone();
    assert!(request.starts_with(&format!("CONNECT only-there.invalid:{port} HTTP/1.1\r\n")), "{request}");
    // base64 of user:p:ss
    assert!(request.contains("Proxy-Authorization: Basic dXNlcjpwOnNz\r\n"), "{request}");
}

#[tokio::test]
async fn http_answers_of_any_length_and_cut_are_read() {
    let port = listen(echo).await;
    let proxy = listen(move |mut tcp| async move {
        tcp.set_nodelay(true)?;
        http_head(&mut tcp).await?;
        let head = format!("HTTP/1.0 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(3000));
        for piece in
            head.as_bytes().chunks(700).flat_map(|c| c.split_at_checked(1).map(|(a, b)| [a, b]).unwrap())
        {
            tcp.write_all(piece).await?;
            tokio::task::yield_now().await;
        }
        join(tcp, port).await
    })
    .await;
    through(format!("http://127.0.0.1:{proxy}"), "a", port).await.unwrap();
}

#[tokio::test]
async fn http_refusals_are_told() {
    use NetErrorKind::{Auth, Proxy};
    let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    let proxy = http(refusal, Arc::default()).await;
    let at = format!("127.0.0.1:{proxy}");
    fails(through(format!("http://{at}"), "a", 1).await, Auth, &[&at, "wants a user", "--proxy"]);
    fails(through(format!("http://u:wrong-secret@{at}"), "a", 1).await, Auth, &[&at, "refused the user"]);
    let proxy = http("HTTP/1.1 502 Bad \x1b[31mGateway\r\n\r\n", Arc::default()).await;
    let outcome = through(format!("http://127.0.0.1:{proxy}"), "a", 1).await;
    fails(outcome, Proxy, &["could not connect to a:1: 502 Bad [31mGateway"]);
}

#[tokio::test]
async fn what_is_no_proxy_is_found_out() {
    use NetErrorKind::Proxy;
    for garbage in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"HTTP/9 what\r\n\r\n", &[b'H'; 64], &[0xff; 4096]] {
        let port = listen(move |mut tcp| async move {
            tcp.read_u8().await?;
            tcp.write_all(garbage).await?;
            tcp.read_to_end(&mut Vec::new()).await.map(drop)
        })
        .await;
        for scheme in ["http", "socks5"] {
            let outcome = through(format!("{scheme}://127.0.0.1:{port}"), "a", 1).await;
            fails(outcome, Proxy, &[&format!("the proxy 127.0.0.1:{port} does not speak "), "--proxy"]);
        }
    }
    // An answer that never ends is not read for ever.
    let port = listen(|mut tcp| async move {
        tcp.read_u8().await?;
        tcp.write_all(b"HTTP/1.1 200 OK\r\n").await?;
        loop {
            tcp.write_all(b"X-More: and more\r\n").await?;
        }
    })
    .await;
    fails(through(format!("http://127.0.0.1:{port}"), "a", 1).await, Proxy, &["does not speak HTTP"]);
    let port = listen(|mut tcp| async move { tcp.read(&mut [0; 1024]).await.map(drop) }).await;
    for scheme in ["http", "socks5"] {
        let outcome = through(format!("{scheme}://127.0.0.1:{port}"), "a", 1).await;
        fails(outcome, Proxy, &["broke the connection off", "--proxy"]);
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_or_silent_is_named() {
    let port = closed_port().await;
    let outcome = through(format!("socks5://127.0.0.1:{port}"), "a", 1).await;
    fails(
        outcome,
        NetErrorKind::Proxy,
        &["the proxy cannot be reached", &format!("127.0.0.1:{port}"), "refused", "--proxy"],
    );
    let outcome = through("http://no-such-proxy.invalid:1".into(), "a", 1).await;
    fails(outcome, NetErrorKind::Proxy, &["the proxy cannot be reached", "no-such-proxy.invalid"]);
    let port = listen(|mut tcp| async move { tcp.read_to_end(&mut Vec::new()).await.map(drop) }).await;
    for scheme in ["http", "socks5"] {
        let outcome = soon(hasty(Some(format!("{scheme}://127.0.0.1:{port}"))).tcp("a", 1)).await;
        fails(
            outcome.map(drop),
            NetErrorKind::Timeout,
            &["a:1", &format!("proxy 127.0.0.1:{port} within 300ms")],
        );
    }
}

#[tokio::test]
async fn tls_and_websocket_go_through_a_proxy() {
    let pki = Pki::new();
    let port = tls_echo(&showing(&pki.issue("inside.example", |_| {})), &[]).await;
    let proxy = socks5(false, 0, Arc::default()).await;
    let tunnel = dialer(&pki.trusting(), Some(format!("socks5://127.0.0.1:{proxy}")));
    let tls = soon(tunnel.tls("inside.example", port, &[])).await.unwrap();
    soon(round_trip(tls)).await.unwrap();

    let port = listen(|tcp| async move {
        let ws = tokio_tungstenite::accept_async(tcp).await.map_err(io::Error::other)?;
        echo(tracemq_plugin_api::net::WsStream::new(ws)).await
    })
    .await;
    let proxy = http("HTTP/1.1 200 OK\r\n\r\n", Arc::default()).await;
    let tunnel = dialer(&TlsOptions::default(), Some(format!("http://127.0.0.1:{proxy}")));
    let ws = soon(tunnel.ws(&WsRequest::new("inside.example", port, false))).await.unwrap();
    soon(round_trip(ws)).await.unwrap();
}
