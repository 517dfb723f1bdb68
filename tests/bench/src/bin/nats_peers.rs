//! What `scripts/bench nats` measures with and against.
//!
//! `nats_peers source COUNT SIZE` serves each client COUNT messages, encoded beforehand, once it has subscribed; its port is
//! the first line of its output; it ends with its standard input. `async_nats PORT SUBJECT COUNT` is a subscriber with
//! async-nats and nothing else. `publish PORT SUBJECT COUNT SIZE` and `subscribe PORT SUBJECT COUNT CONNECTIONS` speak just
//! enough of the protocol to keep a server busy; the latter writes a line when all are subscribed.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Bytes that are written and read at once.
const BLOCK: usize = 64 * 1024;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["source", count, size] => source(count.parse()?, size.parse()?),
        ["async_nats", port, subject, count] => async_nats_sub(port, subject, count.parse()?),
        ["publish", port, subject, count, size] => {
            publish(port.parse()?, subject, count.parse()?, size.parse()?)
        }
        ["subscribe", port, subject, count, connections] => {
            subscribe(port.parse()?, subject, count.parse()?, connections.parse()?)
        }
        _ => Err("usage: nats_peers source COUNT SIZE | async_nats PORT SUBJECT COUNT | \
             publish PORT SUBJECT COUNT SIZE | subscribe PORT SUBJECT COUNT CONNECTIONS"
            .into()),
    }
}

fn source(count: u64, size: usize) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that leaves in the middle is not this one's concern.
            thread::spawn(move || drop(feed(client, count, size)));
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn feed(mut client: TcpStream, count: u64, size: usize) -> Result<(), Failure> {
    client.set_nodelay(true)?;
    let port = client.local_addr()?.port();
    let info = serde_json::json!({
        "server_id": "source", "server_name": "source", "version": "2.9.10", "proto": 1, "headers": true,
        "host": "127.0.0.1", "port": port, "max_payload": 1 << 20, "client_id": 1,
    });
    write!(client, "INFO {info}\r\n")?;
    let mut lines = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    let sid = loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
            ["PING"] => client.write_all(b"PONG\r\n")?,
            // An inbox for answers is not what is to be fed.
            ["SUB", subject, sid] if !subject.starts_with("_INBOX") => break (*sid).to_owned(),
            _ => {}
        }
    };
    let mut answers = client.try_clone()?;
    let message = format!("MSG bench.t {sid} {size}\r\n{}\r\n", "x".repeat(size));
    let at_once = (BLOCK / message.len()).max(1) as u64;
    let block = message.repeat(at_once as usize);
    // The PONG to whoever waits for its subscription; later pings find the stream between two blocks.
    let mut left = count;
    client.set_read_timeout(Some(std::time::Duration::from_millis(20)))?;
    line.clear();
    while matches!(lines.read_line(&mut line), Ok(1..)) {
        if line.starts_with("PING") {
            answers.write_all(b"PONG\r\n")?;
        }
        line.clear();
    }
    while left > 0 {
        let now = left.min(at_once);
        client.write_all(&block.as_bytes()[..message.len() * now as usize])?;
        left -= now;
    }
    client.set_read_timeout(None)?;
    while lines.read_line(&mut line)? > 0 {
        if line.starts_with("PING") {
            answers.write_all(b"PONG\r\n")?;
        }
        line.clear();
    }
    Ok(())
}

/// As its documentation says it is done, but with room for all messages: at the default it drops most of them in silence.
fn async_nats_sub(port: &str, subject: &str, count: u64) -> Result<(), Failure> {
    use futures_util::StreamExt;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = async_nats::ConnectOptions::new().subscription_capacity(1 << 20);
        let client = options.connect(format!("nats://127.0.0.1:{port}")).await?;
        let mut messages = client.subscribe(subject.to_owned()).await?;
        let mut out = BufWriter::with_capacity(BLOCK, std::io::stdout().lock());
        for _ in 0..count {
            let message = messages.next().await.ok_or("the stream ended")?;
            out.write_all(&message.payload)?;
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    })
}

/// A connection that was greeted and has said CONNECT.
fn connect(port: u16) -> Result<(TcpStream, BufReader<TcpStream>), Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut lines = BufReader::with_capacity(BLOCK, stream.try_clone()?);
    lines.read_line(&mut String::new())?;
    stream.write_all(
        b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"1\"}\r\n",
    )?;
    Ok((stream, lines))
}

fn wait_pong(stream: &mut TcpStream, lines: &mut BufReader<TcpStream>) -> Result<(), Failure> {
    stream.write_all(b"PING\r\n")?;
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Err("the server closed the connection".into());
        }
        if line.starts_with("PING") {
            stream.write_all(b"PONG\r\n")?;
        }
    }
    Ok(())
}

fn publish(port: u16, subject: &str, count: u64, size: usize) -> Result<(), Failure> {
    let (mut stream, mut lines) = connect(port)?;
    let message = format!("PUB {subject} {size}\r\n{}\r\n", "x".repeat(size));
    let at_once = (BLOCK / message.len()).max(1) as u64;
    let block = message.repeat(at_once as usize);
    let mut left = count;
    while left > 0 {
        let now = left.min(at_once);
        stream.write_all(&block.as_bytes()[..message.len() * now as usize])?;
        left -= now;
    }
    wait_pong(&mut stream, &mut lines)
}

fn subscribe(port: u16, subject: &str, count: u64, connections: usize) -> Result<(), Failure> {
    let mut readers = Vec::new();
    for _ in 0..connections {
        let (mut stream, mut lines) = connect(port)?;
        write!(stream, "SUB {subject} 1\r\n")?;
        wait_pong(&mut stream, &mut lines)?;
        readers.push(lines);
    }
    writeln!(std::io::stdout(), "subscribed")?;
    let threads = readers.into_iter().map(|lines| thread::spawn(move || drain(lines, count)));
    threads
        .collect::<Vec<_>>()
        .into_iter()
        .try_for_each(|thread| thread.join().map_err(|_| Failure::from("a reader panicked"))?)
}

/// Reads so many messages. All are alike, so after the first the bytes tell how many have come.
fn drain(mut lines: BufReader<TcpStream>, count: u64) -> Result<(), Failure> {
    let mut head = String::new();
    while !head.starts_with("MSG") {
        head.clear();
        if lines.read_line(&mut head)? == 0 {
            return Err("the server closed the connection".into());
        }
    }
    let payload: u64 = head.split_ascii_whitespace().next_back().ok_or("MSG without a size")?.parse()?;
    let mut left = (head.len() as u64 + payload + 2) * count - head.len() as u64;
    let mut block = vec![0; BLOCK];
    while left > 0 {
        let most = left.min(BLOCK as u64) as usize;
        match lines.read(&mut block[..most])? {
            0 => return Err("the server closed the connection".into()),
            read => left -= read as u64,
        }
    }
    Ok(())
}
