//! What stands before the frames: protocol headers (AMQP part 2, section 2.2) and the security layer (part 5, section 5.3).
//!
//! Clients of Event Hubs log in as nobody and put tokens then. Who logs in by PLAIN, with the name of a key and the key, may do
//! everything at once, as in Azure.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::access::{Access, Keys};
use crate::wire::{Frame, MIN_FRAME, Outbox, Reader, code};

const AMQP: &[u8; 8] = b"AMQP\x00\x01\x00\x00";
const SASL: &[u8; 8] = b"AMQP\x03\x01\x00\x00";

/// Why there is no connection, as a text for people.
type Refusal = String;

fn broken(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ended before it was open".to_owned(),
        _ => error.to_string(),
    }
}

/// Takes in a client up to its first frame. Says what it may do without a token.
///
/// # Errors
/// It is no client of ours; it was told so as far as the protocol allows.
pub(super) async fn accept<S>(stream: &mut S, keys: &Keys) -> Result<Access, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut access = Access::default();
    let mut header = read_header(stream).await?;
    if &header == SASL {
        access = log_in(stream, keys).await?;
        header = read_header(stream).await?;
    }
    if &header != AMQP {
        // Section 2.2: the version that would do, and the end.
        write(stream, SASL).await?;
        return Err("it does not speak AMQP 1.0".to_owned());
    }
    write(stream, AMQP).await?;
    Ok(access)
}

async fn read_header<S: AsyncRead + Unpin>(stream: &mut S) -> Result<[u8; 8], Refusal> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.map_err(broken)?;
    Ok(header)
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), Refusal> {
    stream.write_all(bytes).await.map_err(broken)?;
    stream.flush().await.map_err(broken)
}

async fn log_in<S>(stream: &mut S, keys: &Keys) -> Result<Access, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = Outbox::default();
    out.bytes(SASL);
    out.sasl(code::SASL_MECHANISMS, |w| w.symbols(["ANONYMOUS", "PLAIN"].into_iter()));
    write(stream, out.unsent()).await?;
    let mut head = [0; 8];
    stream.read_exact(&mut head).await.map_err(broken)?;
    let header = Frame::header(&head, MIN_FRAME).map_err(|error| error.to_string())?;
    let header = header.filter(|header| header.sasl).ok_or("it sent another frame than one of SASL")?;
    let mut body = vec![0; header.size - head.len()];
    stream.read_exact(&mut body).await.map_err(broken)?;
    let judged = judge(&body[header.body - head.len()..], keys);
    let mut out = Outbox::default();
    out.sasl(code::SASL_OUTCOME, |w| {
        w.ubyte(if judged.is_ok() { 0 } else { 1 });
        w.null();
    });
    write(stream, out.unsent()).await?;
    judged
}

fn judge(init: &[u8], keys: &Keys) -> Result<Access, Refusal> {
    let init = Reader::new(init).value().map_err(|error| error.to_string())?;
    let fields = init.list().filter(|_| init.descriptor() == Some(u64::from(code::SASL_INIT)));
    let [mechanism, response, _] =
        fields.ok_or("it sent another frame than sasl-init")?.fields().map_err(|error| error.to_string())?;
    match mechanism.text() {
        Some("ANONYMOUS") => Ok(Access::default()),
        Some("PLAIN") => {
            // RFC 4616: authorization identity, name, password.
            let response = response.binary().unwrap_or_default();
            let mut parts = response.splitn(3, |byte| *byte == 0).skip(1);
            let name = parts.next().and_then(|name| std::str::from_utf8(name).ok());
            match keys.users.allow(name, parts.next()) {
                true => Ok(Access::everything()),
                false => Err("the name of the key or the key is wrong (SASL PLAIN)".to_owned()),
            }
        }
        _ => Err("its SASL mechanism is neither ANONYMOUS nor PLAIN".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracemq_plugin_api::net::{User, Users};

    fn keys() -> Keys {
        let keys = vec![User { name: "app".to_owned(), secret: "key".to_owned() }];
        let users = Users::new(&keys).expect("distinct");
        Keys::new(keys, users)
    }

    fn init(mechanism: &str, response: &[u8]) -> Vec<u8> {
        let mut out = Outbox::default();
        out.sasl(code::SASL_INIT, |w| {
            w.symbol(mechanism);
            w.binary(response);
            w.null();
        });
        out.unsent().to_vec()
    }

    async fn shake(sent: &[&[u8]]) -> (Result<Access, Refusal>, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(4096);
        for bytes in sent {
            client.write_all(bytes).await.expect("room");
        }
        client.shutdown().await.expect("open");
        let result = accept(&mut server, &keys()).await;
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("readable");
        (result, answer)
    }

    #[tokio::test]
    async fn those_who_may_come_in() {
        for (sent, all) in [
            (vec![AMQP.to_vec()], false),
            (vec![SASL.to_vec(), init("ANONYMOUS", b"x"), AMQP.to_vec()], false),
            (vec![SASL.to_vec(), init("PLAIN", b"\0app\0key"), AMQP.to_vec()], true),
        ] {
            let sent: Vec<_> = sent.iter().map(Vec::as_slice).collect();
            let (access, answer) = shake(&sent).await;
            assert_eq!(access.expect("it may").until("any").is_some(), all);
            assert!(answer.ends_with(AMQP));
        }
    }

    #[tokio::test]
    async fn those_who_may_not() {
        let long = [&b"\x7f\xff\xff\xff\x02\x01\0\0"[..], &[0; 600]].concat();
        for (sent, told) in [
            (vec![b"GARBAGE!".to_vec()], "AMQP 1.0"),
            (vec![b"AMQP\x00\x00\x09\x01".to_vec()], "AMQP 1.0"),
            (vec![SASL.to_vec(), init("PLAIN", b"\0app\0hunter2")], "is wrong"),
            (vec![SASL.to_vec(), init("PLAIN", b"app")], "is wrong"),
            (vec![SASL.to_vec(), init("EXTERNAL", b"")], "neither"),
            (vec![SASL.to_vec(), long], "size"),
            (vec![SASL.to_vec(), b"\0\0\0\x08\x02\x01\0\0".to_vec()], "end"),
            (vec![SASL.to_vec()], "ended"),
        ] {
            let sent: Vec<_> = sent.iter().map(Vec::as_slice).collect();
            let (access, _) = shake(&sent).await;
            let why = access.expect_err(told);
            assert!(why.contains(told) && !why.contains("hunter2"), "{why}");
        }
    }
}
