//! Enhanced authentication through the plugin's own entry point, against a SCRAM server written for the test: no broker
//! that is at hand speaks it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::BytesMut;
use hmac::{Hmac, Mac};
use rumqttc::v5::mqttbytes::v5::Packet;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracemq_mqtt::Mqtt;
use tracemq_plugin_api::abi::{Error, ErrorKind, ModuleSource};
use tracemq_plugin_api::sdk::Adapter;

const SALT: &[u8] = b"0123456789abcdef";
const ITERATIONS: u32 = 4096;

/// How the server behaves.
#[derive(Clone, Copy, PartialEq)]
enum Server {
    Honest,
    /// Accepts everybody, though it does not know the password.
    Impostor,
    /// Asks for more work than a client should do.
    Greedy,
    /// Accepts without an exchange.
    Hasty,
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(data).finalize().into_bytes().to_vec()
}

fn auth(packet: u8, head: &[u8], method: &str, data: &str) -> Vec<u8> {
    let mut list = vec![0x15, 0, method.len() as u8];
    list.extend_from_slice(method.as_bytes());
    list.extend_from_slice(&[0x16, 0, data.len() as u8]);
    list.extend_from_slice(data.as_bytes());
    assert!(list.len() < 120, "one length byte is enough here");
    let mut out = vec![packet, (head.len() + 1 + list.len()) as u8];
    out.extend_from_slice(head);
    out.push(list.len() as u8);
    out.extend_from_slice(&list);
    out
}

async fn read(stream: &mut TcpStream) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(4096);
    assert!(stream.read_buf(&mut buffer).await.unwrap() > 0);
    buffer
}

async fn serve(listener: TcpListener, password: &str, server: Server) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let Packet::Connect(connect, _, login) = Packet::read(&mut read(&mut stream).await, None).unwrap() else {
        panic!()
    };
    let properties = connect.properties.unwrap();
    assert_eq!(properties.authentication_method.as_deref(), Some("SCRAM-SHA-256"));
    assert!(login.is_none_or(|login| login.password.is_empty()), "the password does not travel");
    let first = String::from_utf8(properties.authentication_data.unwrap().to_vec()).unwrap();
    let bare = first.strip_prefix("n,,").unwrap();
    let nonce = bare.split_once(",r=").unwrap().1;
    if server == Server::Hasty {
        return stream.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
    }

    let iterations = if server == Server::Greedy { 2_000_000 } else { ITERATIONS };
    let challenge = format!("r={nonce}Sv,s={},i={iterations}", BASE64.encode(SALT));
    stream.write_all(&auth(0xF0, &[0x18], "SCRAM-SHA-256", &challenge)).await.unwrap();
    if server == Server::Greedy {
        return drop(stream.read_buf(&mut BytesMut::new()).await);
    }
    let answer = read(&mut stream).await;
    assert_eq!((answer[0], answer[2]), (0xF0, 0x18));
    let at = answer.windows(2).position(|pair| pair == b"c=").unwrap();
    let last = std::str::from_utf8(&answer[at..]).unwrap();
    let (without_proof, proof) = last.split_once(",p=").unwrap();

    let message = format!("{bare},{challenge},{without_proof}");
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), SALT, ITERATIONS);
    let stored = Sha256::digest(hmac(&salted, b"Client Key"));
    let signature = hmac(&stored, message.as_bytes());
    let proof = BASE64.decode(proof).unwrap();
    let key: Vec<u8> = proof.iter().zip(signature).map(|(proof, signature)| proof ^ signature).collect();
    if server == Server::Honest && Sha256::digest(key) != stored {
        return stream.write_all(&[0x20, 3, 0, 0x86, 0]).await.unwrap();
    }
    let proven = BASE64.encode(hmac(&hmac(&salted, b"Server Key"), message.as_bytes()));
    stream.write_all(&auth(0x20, &[0, 0], "SCRAM-SHA-256", &format!("v={proven}"))).await.unwrap();
    // Until the client goes.
    while stream.read_buf(&mut BytesMut::new()).await.is_ok_and(|read| read > 0) {}
}

/// Connects with the password "pencil" to a server that knows another or the same.
async fn connect(known: &'static str, server: Server) -> Result<(), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(serve(listener, known, server));
    let options =
        serde_json::json!({ "auth_method": "SCRAM-SHA-256", "username": "user", "password": "pencil" });
    let context = serde_json::json!({ "url": url, "target": url });
    let module = Adapter::<Mqtt>::module();
    let result = (module.connect)(options.to_string().into(), context.to_string().into())
        .await
        .into_result()
        .map(drop);
    server.await.unwrap();
    result
}

#[tokio::test]
async fn both_prove_that_they_know_the_password() {
    connect("pencil", Server::Honest).await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let error = connect("another", Server::Honest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AUTH);
    assert!(error.to_string().contains("0x86 bad user name or password"), "{error}");
    assert!(!error.to_string().contains("pencil"));
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_left() {
    for server in [Server::Impostor, Server::Hasty] {
        let error = connect("guessed", server).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AUTH);
        assert!(error.to_string().contains("the password"), "{error}");
    }
}

#[tokio::test]
async fn a_server_cannot_keep_us_busy() {
    let error = connect("pencil", Server::Greedy).await.unwrap_err();
    assert!(error.to_string().contains("4096 to 1000000"), "{error}");
}
