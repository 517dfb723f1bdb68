//! MQTT over WebSocket. mosquitto's tools of Debian cannot speak it, so a WebSocket library carries raw packets.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message, http::HeaderValue};
use tokio_tungstenite::{WebSocketStream, client_async};
use tracemq_mqtt::serve::{BrokerEvent, BrokerOptions, Transport};

use super::house::House;
use super::raw::{connect, publish, subscribe};

fn start() -> House {
    House::start(BrokerOptions { ws_bind: Some("127.0.0.1:0".to_owned()), ..BrokerOptions::default() })
}

async fn open(address: &str, protocol: Option<&'static str>) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{address}/mqtt").into_client_request()?;
    if let Some(protocol) = protocol {
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(protocol));
    }
    let stream = TcpStream::connect(address).await?;
    let (stream, response) = client_async(request, stream).await?;
    let answered = response.headers().get("Sec-WebSocket-Protocol").expect("an answer to the sub-protocol");
    assert!(protocol.expect("one was offered").contains(answered.to_str().expect("text")));
    Ok(stream)
}

async fn binary(stream: &mut WebSocketStream<TcpStream>) -> Vec<u8> {
    loop {
        match stream.next().await.expect("still open").expect("a frame") {
            Message::Binary(bytes) => return bytes.to_vec(),
            Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn packets_pass_in_binary_frames_however_they_are_cut() {
    let house = start();
    let address = house.address("mqtt+ws");
    house.wait(async {
        let mut stream = open(&address, Some("mqtt")).await.expect("a handshake");
        // Cut within the packet, with a ping in between; and two packets in one frame.
        let packet = connect(5, "browser", true, 60, &[]);
        stream.send(Message::Binary(packet[..5].to_vec().into())).await.expect("sent");
        stream.send(Message::Ping("p".into())).await.expect("sent");
        stream.send(Message::Binary(packet[5..].to_vec().into())).await.expect("sent");
        assert_eq!(binary(&mut stream).await[0], 0x20, "CONNACK");
        let mut two = subscribe(5, "ws/#", 0);
        two.extend(publish("ws/a", b"over ws", 0, 0, Some(&[])));
        stream.send(Message::Binary(two.into())).await.expect("sent");
        let mut received = Vec::new();
        while !received.ends_with(b"over ws") {
            received.extend(binary(&mut stream).await);
        }
        assert_eq!(received[0], 0x90, "SUBACK first");
    });
    house.event(|event| match event {
        BrokerEvent::Connected { client, transport, peer, .. } => {
            assert_eq!((&**client, *transport), ("browser", Some(Transport::Ws)));
            assert!(peer.is_some());
            Some(())
        }
        _ => None,
    });
    assert_eq!(house.message().payload, "over ws");
}

#[test]
fn the_sub_protocol_is_chosen_or_the_handshake_refused() {
    let house = start();
    let address = house.address("mqtt+ws");
    house.wait(async {
        open(&address, Some("mqttv3.1")).await.expect("3.1's name");
        open(&address, Some("soap, mqtt")).await.expect("one of several");
        for wrong in [None, Some("soap")] {
            match open(&address, wrong).await {
                Err(Error::Http(response)) => assert_eq!(response.status(), 400),
                other => panic!("{wrong:?}: {other:?}"),
            }
        }
    });
    assert!(house.refusal("connection").starts_with("WebSocket:"));
}

#[test]
fn a_text_frame_ends_the_connection() {
    let house = start();
    let address = house.address("mqtt+ws");
    house.wait(async {
        let mut stream = open(&address, Some("mqtt")).await.expect("a handshake");
        stream.send(Message::Binary(connect(4, "texter", true, 60, &[]).into())).await.expect("sent");
        binary(&mut stream).await;
        stream.send(Message::Text("hello".into())).await.expect("sent");
        while let Some(Ok(frame)) = stream.next().await {
            assert!(!frame.is_binary(), "{frame:?}");
        }
    });
    house.event(|event| matches!(event, BrokerEvent::Disconnected { .. }).then_some(()));
}
