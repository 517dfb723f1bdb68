//! The login at the connection's start (AMQP 1.0 part 5.3).
//!
//! By hand and not with fe2o3-amqp, which ties EXTERNAL to a TLS stack of its own, and takes a frame as large as it says it
//! is. What may come here is small, and whatever else comes is told in words: it is the first that a wrong port shows.

use std::io;

use fe2o3_amqp_types::sasl::{SaslCode, SaslInit, SaslMechanisms, SaslOutcome};
use serde_amqp::primitives::{Binary, Symbol};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracemq_plugin_api::net::explain_io;
use tracemq_plugin_api::prelude::*;

use crate::config::Login;

const HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
/// MIN-MAX-FRAME-SIZE is 512; brokers with many mechanisms are known to send more.
const LONGEST_FRAME: usize = 4096;
const SASL_FRAME: u8 = 1;
const MECHANISMS: u64 = 0x40;
const CHALLENGE: u64 = 0x42;
const OUTCOME: u64 = 0x44;

/// Logs in on a fresh stream, and leaves it where AMQP's own header follows. Errors name no server.
pub(super) async fn log_in(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    login: &Login,
    hostname: &str,
) -> Result<()> {
    stream.write_all(&HEADER).await.map_err(broke)?;
    stream.flush().await.map_err(broke)?;
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.map_err(broke)?;
    check_header(header)?;
    let (mechanism, response) = match login {
        Login::Tokens(_) | Login::Anonymous => ("ANONYMOUS", Vec::new()),
        Login::Plain { user, password } => ("PLAIN", format!("\0{user}\0{password}").into_bytes()),
        Login::External => ("EXTERNAL", Vec::new()),
    };
    let (code, body) = read_frame(stream).await?;
    if code != MECHANISMS {
        return Err(strange("it does not begin with its SASL mechanisms"));
    }
    let offered: SaslMechanisms =
        serde_amqp::from_slice(&body).map_err(|_| strange("its SASL mechanisms can't be read"))?;
    let offered: Vec<&str> = offered.sasl_server_mechanisms.0.iter().map(Symbol::as_str).collect();
    if !offered.contains(&mechanism) {
        let offered = crate::error::one_line(&offered.join(" "));
        return Err(Error::new(
            ErrorKind::AUTH,
            format!("the server does not let anybody in by SASL {mechanism}: it offers {offered}"),
        )
        .hint(match login {
            Login::Tokens(_) => "is it Event Hubs? a broker of queues is reached by amqp:// or amqps://",
            Login::Anonymous => "give --username and --password",
            _ => "try another --sasl",
        }));
    }
    let init = SaslInit {
        mechanism: Symbol::from(mechanism),
        initial_response: (mechanism != "ANONYMOUS").then(|| Binary::from(response)),
        hostname: Some(hostname.to_owned()),
    };
    let body = serde_amqp::to_vec(&init)
        .map_err(|error| Error::config(format!("the login can't be encoded: {error}")))?;
    let size =
        u32::try_from(8 + body.len()).map_err(|_| Error::config("user name and password are too long"))?;
    let mut frame = Vec::with_capacity(8 + body.len());
    frame.extend_from_slice(&size.to_be_bytes());
    frame.extend_from_slice(&[2, SASL_FRAME, 0, 0]);
    frame.extend_from_slice(&body);
    stream.write_all(&frame).await.map_err(broke)?;
    stream.flush().await.map_err(broke)?;
    let (code, body) = match read_frame(stream).await {
        // Some brokers say no by hanging up.
        Err(error) if matches!(login, Login::Plain { .. }) && error.is_temporary() => {
            return Err(error.hint("a wrong password may be the reason: check --username and --password"));
        }
        other => other?,
    };
    match code {
        CHALLENGE => return Err(strange("it wants more for its login than we have")),
        OUTCOME => {}
        _ => return Err(strange("it does not answer the login")),
    }
    let outcome: SaslOutcome =
        serde_amqp::from_slice(&body).map_err(|_| strange("its answer to the login can't be read"))?;
    let text = format!("the server refused the login (SASL {mechanism})");
    match outcome.code {
        SaslCode::Ok => Ok(()),
        SaslCode::Auth => Err(Error::new(ErrorKind::AUTH, text).code("sasl 1 auth").hint(match login {
            Login::Plain { .. } => "check --username and --password",
            Login::External => "check --tls-cert: the server does not know its subject",
            _ => "it wants a name: give --username and --password",
        })),
        SaslCode::Sys | SaslCode::SysTemp => {
            Err(Error::new(ErrorKind::CONNECT, format!("{text}: its system failed")).temporary())
        }
        SaslCode::SysPerm => {
            Err(Error::new(ErrorKind::AUTH, format!("{text}: its system failed")).code("sasl 3 sys-perm"))
        }
    }
}

/// The next frame's code and body.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<(u64, Vec<u8>)> {
    let mut head = [0; 8];
    stream.read_exact(&mut head).await.map_err(broke)?;
    let [a, b, c, d, offset, kind, ..] = head;
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let offset = usize::from(offset) * 4;
    if kind != SASL_FRAME || offset < 8 || size < offset || size > LONGEST_FRAME {
        return Err(strange("what it sends is no SASL frame"));
    }
    let mut body = vec![0; size - 8];
    stream.read_exact(&mut body).await.map_err(broke)?;
    let body = body.split_off(offset - 8);
    // A described list: its descriptor is a small or a full ulong.
    let code = match body.as_slice() {
        [0x00, 0x53, code, ..] => u64::from(*code),
        [0x00, 0x80, a, b, c, d, e, f, g, h, ..] => u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
        _ => return Err(strange("what it sends is no SASL frame")),
    };
    Ok((code, body))
}

fn check_header(header: [u8; 8]) -> Result<()> {
    if header == HEADER {
        return Ok(());
    }
    match &header {
        b"AMQP\x00\x00\x09\x01" => Err(strange("it speaks AMQP 0-9-1 here, not AMQP 1.0")
            .hint("RabbitMQ needs its plugin rabbitmq_amqp1_0")),
        [b'A', b'M', b'Q', b'P', 0, ..] => {
            Err(strange("it takes no login (SASL)").hint("there is no way to connect without one"))
        }
        [b'A', b'M', b'Q', b'P', 2, ..] => Err(strange("it wants TLS").hint("use amqps://, or no emulator")),
        [b'A', b'M', b'Q', b'P', ..] => Err(strange("it speaks another version of AMQP")),
        [b'H', b'T', b'T', b'P', ..] => Err(strange("it speaks HTTP")),
        [0x15 | 0x16, 0x03, ..] => Err(strange("it wants TLS").hint("use amqps://, or no emulator")),
        _ => Err(strange("it does not begin with AMQP")),
    }
}

fn strange(what: &str) -> Error {
    Error::new(ErrorKind::CONNECT, format!("this is not what an AMQP 1.0 server says: {what}"))
        .hint("check host, port and scheme, and --transport")
}

fn broke(error: io::Error) -> Error {
    if let Some(explained) = explain_io(&error) {
        return explained.into();
    }
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            "the server closed the connection before the login was over".to_owned()
        }
        _ => format!("the connection broke before the login was over: {error}"),
    };
    Error::new(ErrorKind::CONNECT, text).temporary()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a server that sends these bytes.
    async fn answer(bytes: &[u8]) -> Result<()> {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(bytes).await.expect("room");
        theirs.shutdown().await.expect("open");
        let login = Login::Plain { user: "u".into(), password: "hunter2".into() };
        log_in(&mut ours, &login, "h").await
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(8 + body.len()).expect("short");
        [&size.to_be_bytes()[..], &[2, SASL_FRAME, 0, 0], body].concat()
    }

    fn mechanisms(names: &[&str]) -> Vec<u8> {
        let names: Vec<Symbol> = names.iter().map(|name| Symbol::from(*name)).collect();
        frame(&serde_amqp::to_vec(&SaslMechanisms { sasl_server_mechanisms: names.into() }).expect("encoded"))
    }

    fn outcome(code: SaslCode) -> Vec<u8> {
        frame(&serde_amqp::to_vec(&SaslOutcome { code, additional_data: None }).expect("encoded"))
    }

    #[tokio::test]
    async fn a_login_and_its_refusals() {
        let plain = [&HEADER[..], &mechanisms(&["X", "PLAIN"])].concat();
        assert!(answer(&[&plain[..], &outcome(SaslCode::Ok)].concat()).await.is_ok());
        let error = answer(&[&plain[..], &outcome(SaslCode::Auth)].concat()).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::AUTH);
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error =
            answer(&[&HEADER[..], &mechanisms(&["EXTERNAL"])].concat()).await.expect_err("not offered");
        assert!(error.kind() == ErrorKind::AUTH && error.message().contains("EXTERNAL"), "{error}");
    }

    #[tokio::test]
    async fn whatever_else_comes_is_told() {
        let large = [&HEADER[..], &[0x7f, 0xff, 0xff, 0xff, 2, 1, 0, 0]].concat();
        let short = [&HEADER[..], &[0, 0, 0, 4, 2, 1, 0, 0]].concat();
        let garbage = [&HEADER[..], &frame(&[0xde, 0xad])].concat();
        let empty = [&HEADER[..], &frame(&[])].concat();
        for (bytes, part) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], "HTTP"),
            (b"AMQP\x00\x00\x09\x01", "0-9-1"),
            (b"AMQP\x02\x01\x00\x00", "TLS"),
            (b"\x15\x03\x03\x00\x02\x02\x46\x00", "TLS"),
            (b"SSH-2.0-OpenSSH", "does not begin with AMQP"),
            (b"", "closed the connection"),
            (&large, "no SASL frame"),
            (&short, "no SASL frame"),
            (&garbage, "no SASL frame"),
            (&empty, "no SASL frame"),
        ] {
            let error = answer(bytes).await.expect_err(part);
            assert!(error.message().contains(part), "{error}");
            assert_eq!(error.kind(), ErrorKind::CONNECT);
        }
    }
}
