//! A subscriber with rumqttc and nothing else: what `tracemq sub --format raw` is held against.
//!
//! Usage: `rumqttc_sub 3.1.1|5.0 PORT TOPIC QOS COUNT`. Writes each payload and a newline, as `mosquitto_sub` does.

use std::io::{BufWriter, Write};
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [version, port, topic, qos, count] = arguments.as_slice() else {
        return Err("usage: rumqttc_sub 3.1.1|5.0 PORT TOPIC QOS COUNT".into());
    };
    let (port, qos, count) = (port.parse()?, qos.parse()?, count.parse()?);
    match version.as_str() {
        "3.1.1" => subscribe_v4(port, topic, qos, count).await,
        "5.0" => subscribe_v5(port, topic, qos, count).await,
        other => Err(format!("no such version: {other}").into()),
    }
}

async fn subscribe_v4(port: u16, topic: &str, qos: u8, count: u64) -> Result<(), Failure> {
    use rumqttc::{AsyncClient, Event, MqttOptions, Packet};
    let mut options = MqttOptions::new("rumqttc-v4", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30)).set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(options, 16);
    client.subscribe(topic, rumqttc::qos(qos).map_err(|error| format!("{error:?}"))?).await?;
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut left = count;
    while left > 0 {
        if let Event::Incoming(Packet::Publish(message)) = events.poll().await? {
            out.write_all(&message.payload)?;
            out.write_all(b"\n")?;
            left -= 1;
        }
    }
    Ok(out.flush()?)
}

async fn subscribe_v5(port: u16, topic: &str, qos: u8, count: u64) -> Result<(), Failure> {
    use rumqttc::v5::mqttbytes::v5::Packet;
    use rumqttc::v5::{AsyncClient, Event, MqttOptions, mqttbytes};
    let mut options = MqttOptions::new("rumqttc-v5", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = AsyncClient::new(options, 16);
    client.subscribe(topic, mqttbytes::qos(qos).ok_or("QoS is 0, 1 or 2")?).await?;
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut left = count;
    while left > 0 {
        if let Event::Incoming(Packet::Publish(message)) = events.poll().await? {
            out.write_all(&message.payload)?;
            out.write_all(b"\n")?;
            left -= 1;
        }
    }
    Ok(out.flush()?)
}
