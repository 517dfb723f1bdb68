//! tungstenite and nothing else, as echo server and as its client: what the plugin's two sides are held against.
//!
//! `tungstenite_echo serve` writes its port, and serves until standard input ends.
//! `tungstenite_echo client PORT COUNT SIZE WINDOW` sends so many text messages of that size, keeps up to WINDOW of them under
//! way, and ends when all have come back.

use std::io::Write;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{accept_async, client_async};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve"] => serve().await,
        ["client", port, count, size, window] => {
            client(port.parse()?, count.parse()?, size.parse()?, window.parse()?).await
        }
        _ => Err("usage: tungstenite_echo serve | client PORT COUNT SIZE WINDOW".into()),
    }
}

/// As tokio-tungstenite's own example of an echo server does it: `forward` writes what is there, and flushes when nothing is.
async fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    let accepting = async {
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            tokio::spawn(async move {
                if let Ok(socket) = accept_async(socket).await {
                    let (write, read) = socket.split();
                    // It ends with the error that the client has closed.
                    let _ = read.forward(write).await;
                }
            });
        }
    };
    tokio::select! {
        failed = accepting => failed,
        ended = async { Ok(tokio::io::stdin().read_to_end(&mut Vec::new()).await.map(drop)?) } => ended,
    }
}

async fn client(port: u16, count: u64, size: usize, window: u64) -> Result<(), Failure> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let (mut socket, _) = client_async(format!("ws://127.0.0.1:{port}/"), socket).await?;
    let text = Utf8Bytes::from("x".repeat(size));
    let (mut sent, mut received) = (0, 0);
    while received < count {
        while sent < count && sent - received < window {
            socket.feed(Message::Text(text.clone())).await?;
            sent += 1;
        }
        socket.flush().await?;
        let mut next = socket.next().await;
        while let Some(message) = next {
            let Message::Text(back) = message? else { return Err("not a text message".into()) };
            if back.len() != size {
                return Err(format!("{} bytes came back", back.len()).into());
            }
            received += 1;
            if received == count {
                break;
            }
            let Some(ready) = socket.next().now_or_never() else { break };
            next = ready;
        }
    }
    socket.close(None).await?;
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}
