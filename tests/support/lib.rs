//! What every test needs: the installation, peers on free ports, processes with time-outs.
//!
//! Tests go through the front door: they start the installed `tracemq` and look at its output, its exit status and what a
//! server or client that this project did not write makes of it. Whatever a test starts is ended with it, by pid.

pub mod amqp;
mod certificates;
mod coap;
mod coap_server;
mod cutting_proxy;
mod eventhubs;
mod faulty_servers;
mod feeder;
mod installation;
mod interpreters;
mod jetstream;
mod libcoap;
mod libraries;
mod loopback;
mod mosquitto;
mod mqtt;
mod namespace;
mod nats;
mod nats_jwt;
mod nats_raw;
mod packet;
mod ports;
mod process;
mod proxies;
mod rabbitmq;
mod relay;
mod scripted;
mod sharing;
mod terminal;
mod udp_tap;
mod wait;
mod websocket;

pub use certificates::{Certificates, Identity};
pub use coap::{CoapMessage, CoapSocket, coap_client, coap_port};
pub use coap_server::{CoapServer, ScriptedCoap, coap_answer};
pub use cutting_proxy::CuttingProxy;
pub use eventhubs::{KEY, LocalHubs};
pub use faulty_servers::FaultyServer;
pub use feeder::{Feeder, feed_acknowledged};
pub use installation::{Installation, Tracemq};
pub use libcoap::{LIBCOAP, LibcoapServer, libcoap_client, wait_for_coap};
pub use libraries::{changed_api, copy_folder, fixture, old_api, outside_plugin, replace};
pub use loopback::NOWHERE;
pub use mosquitto::{Listener, Mosquitto, MosquittoBuilder};
pub use mqtt::{VERSIONS, Version, json};
pub use namespace::{CABLE, Namespaces};
pub use nats::{NatsBuilder, NatsServer, NatsWire, ScriptedNats};
pub use nats_jwt::{NatsOperator, nkey};
pub use nats_raw::NatsRaw;
pub use packet::Packet;
pub use ports::free_port;
pub use process::{Cmd, Done, Run, resident_kib};
pub use proxies::{Proxy, ProxyKind};
pub use rabbitmq::RabbitMq;
pub use relay::{Relay, RelayKind};
pub use scripted::{ScriptedBroker, ScriptedClient};
pub use sharing::{
    Everything, PROTOCOLS, assert_hidden, assert_hidden_below, everything, forged, schemas, stored_profile,
};
pub use terminal::Terminal;
pub use udp_tap::UdpTap;
pub use wait::{LONG, SHORT, until};
pub use websocket::{HostileWebSocket, WebSocketPeer, peer_script};
