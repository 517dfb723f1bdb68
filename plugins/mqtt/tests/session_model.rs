//! A session against a model of a broker that shares no code with it (rumqttc's codec on the broker's side): random
//! interleavings of publishing, partial transfer, consuming, cut connections, lost sessions and restarted processes.
//!
//! Nothing of QoS 1 is lost, nothing of QoS 2 is lost or doubled, packet identifiers and windows are kept, DUP is set
//! exactly on repetitions.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rumqttc::v5::mqttbytes::QoS as WireQoS;
use rumqttc::v5::mqttbytes::v5::{self, Packet, PubAck, PubAckReason, PubComp, PubRec, PubRel};
use tracemq_mqtt::session::store::{Change, Restored};
use tracemq_mqtt::session::{Deliver, Message, Notice, Outcome, Session, SessionConfig};
use tracemq_mqtt::wire::control::ConnAck;
use tracemq_mqtt::wire::publish::Layout;
use tracemq_mqtt::wire::{Connect, Frames, Publish, QoS, Version, frame};

const RECEIVE_MAXIMUM: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    /// The client's user publishes.
    Publish(u8),
    /// Somebody else publishes what the client is subscribed to.
    Send(u8),
    /// So many bytes travel to the server, so many to the client.
    Transfer(usize, usize),
    /// The consumer is done with so many more messages.
    Consume(u64),
    /// The connection breaks; all that is under way is lost.
    Cut,
    /// The client's process is killed and starts again from its journal.
    Restart,
    /// The server forgets the session; the connection breaks.
    Forget,
}

fn step(forget: bool) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3u8).prop_map(Step::Publish),
        6 => (0..3u8).prop_map(Step::Send),
        12 => (0..80usize, 0..80usize).prop_map(|(a, b)| Step::Transfer(a, b)),
        6 => (1..5u64).prop_map(Step::Consume),
        2 => Just(Step::Cut),
        1 => Just(Step::Restart),
        u32::from(forget) => Just(Step::Forget),
    ]
}

/// The server's end of the session.
#[derive(Default)]
struct Broker {
    /// Received, and how often.
    received: BTreeMap<u64, usize>,
    order: Vec<u64>,
    /// QoS 2 identifiers between PUBLISH and PUBREL.
    open: HashSet<u16>,
    /// Unacknowledged on this connection.
    window: HashSet<u16>,
    /// Sent in this session without an answer: they alone may come with DUP.
    unanswered: HashSet<u16>,
    waiting: VecDeque<(u64, u8)>,
    flights: BTreeMap<u16, (u64, u8, bool)>,
    next_pid: u16,
    input: BytesMut,
    output: BytesMut,
}

impl Broker {
    fn read(&mut self) {
        while let Ok(packet) = Packet::read(&mut self.input, None) {
            match packet {
                Packet::Publish(publish) => self.on_publish(&publish),
                Packet::PubRel(PubRel { pkid, .. }) => {
                    self.open.remove(&pkid);
                    self.window.remove(&pkid);
                    self.unanswered.remove(&pkid);
                    PubComp::new(pkid, None).write(&mut self.output).unwrap();
                }
                Packet::PubAck(PubAck { pkid, .. }) => {
                    assert_eq!(self.flights.remove(&pkid).map(|flight| flight.1), Some(1));
                }
                Packet::PubRec(PubRec { pkid, .. }) => {
                    self.flights.get_mut(&pkid).expect("PUBREC for a message in flight").2 = true;
                    PubRel::new(pkid, None).write(&mut self.output).unwrap();
                }
                Packet::PubComp(PubComp { pkid, .. }) => drop(self.flights.remove(&pkid)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn on_publish(&mut self, publish: &v5::Publish) {
        let id: u64 = std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
        let pid = publish.pkid;
        if publish.qos == WireQoS::AtMostOnce {
            *self.received.entry(id).or_default() += 1;
            return;
        }
        assert!(self.window.insert(pid), "identifier {pid} is in use");
        assert!(self.window.len() <= RECEIVE_MAXIMUM, "above the receive maximum");
        if !publish.dup {
            assert!(self.unanswered.insert(pid), "{id} is a repetition without DUP");
        }
        if publish.qos == WireQoS::AtLeastOnce {
            *self.received.entry(id).or_default() += 1;
            self.window.remove(&pid);
            self.unanswered.remove(&pid);
            let ack = PubAck { pkid: pid, reason: PubAckReason::Success, properties: None };
            ack.write(&mut self.output).unwrap();
        } else {
            if self.open.insert(pid) {
                *self.received.entry(id).or_default() += 1;
                self.order.push(id);
            }
            PubRec::new(pid, None).write(&mut self.output).unwrap();
        }
    }

    fn put(&mut self, id: u64, qos: u8, pid: u16, dup: bool) {
        let qos = [WireQoS::AtMostOnce, WireQoS::AtLeastOnce, WireQoS::ExactlyOnce][usize::from(qos)];
        let mut publish = v5::Publish::new("from/server", qos, id.to_string(), None);
        (publish.pkid, publish.dup) = (pid, dup);
        publish.write(&mut self.output).unwrap();
    }

    fn send(&mut self) {
        while self.flights.len() < RECEIVE_MAXIMUM {
            let Some((id, qos)) = self.waiting.pop_front() else { return };
            let mut pid = 0;
            if qos > 0 {
                self.next_pid = self.next_pid % 5 + 1;
                while self.flights.contains_key(&self.next_pid) {
                    self.next_pid = self.next_pid % 5 + 1;
                }
                pid = self.next_pid;
                self.flights.insert(pid, (id, qos, false));
            }
            self.put(id, qos, pid, false);
        }
    }

    fn connection_lost(&mut self) {
        self.input.clear();
        self.output.clear();
        self.window.clear();
    }

    fn connected(&mut self) {
        for (pid, (id, qos, released)) in self.flights.clone() {
            if released {
                PubRel::new(pid, None).write(&mut self.output).unwrap();
            } else {
                self.put(id, qos, pid, true);
            }
        }
    }

    fn forget(&mut self) {
        self.connection_lost();
        self.open.clear();
        self.flights.clear();
        self.unanswered.clear();
    }
}

/// The client's process: its session, and the consumer behind it.
struct Client {
    session: Session,
    journal: Vec<Change>,
    delivered: Delivered,
    consumed: BTreeMap<u64, usize>,
    consumed_up_to: u64,
    outcomes: BTreeMap<u64, usize>,
    output: BytesMut,
    input: BytesMut,
}

/// Ids that the consumer has not dealt with yet.
#[derive(Default)]
struct Delivered(VecDeque<u64>);

impl Deliver for Delivered {
    fn deliver(&mut self, message: &Message<'_>) -> bool {
        let payload = &message.buffer[message.payload.clone()];
        self.0.push_back(std::str::from_utf8(payload).unwrap().parse().unwrap());
        true
    }
}

fn new_session() -> Session {
    let mut connect = Connect::new(Version::V5, "me", false);
    connect.session_expiry = Some(u32::MAX);
    connect.receive_maximum = Some(RECEIVE_MAXIMUM as u16);
    let mut config = SessionConfig::new(connect);
    config.max_in_flight = RECEIVE_MAXIMUM as u16;
    Session::new(config).unwrap()
}

impl Client {
    fn new() -> Self {
        let mut session = new_session();
        session.restore(Restored::default());
        Self {
            session,
            journal: Vec::new(),
            delivered: Delivered::default(),
            consumed: BTreeMap::new(),
            consumed_up_to: 0,
            outcomes: BTreeMap::new(),
            output: BytesMut::new(),
            input: BytesMut::new(),
        }
    }

    fn consume(&mut self, count: u64) {
        for _ in 0..count {
            let Some(id) = self.delivered.0.pop_front() else { break };
            *self.consumed.entry(id).or_default() += 1;
            self.consumed_up_to += 1;
        }
        self.session.consumed(self.consumed_up_to);
        // A process killed between dealing with a message and noting it down sees it again: no client can help that.
        self.write();
    }

    fn read(&mut self) {
        let end = frame::complete(&self.input, 1000, 100).unwrap().end;
        let chunk = self.input.split_to(end).freeze();
        for frame in Frames::new(&chunk) {
            self.session.handle(&frame, &mut self.delivered).unwrap();
        }
    }

    fn write(&mut self) {
        let mut out = BytesMut::new();
        self.session.poll_output(Instant::now(), &mut out);
        // The journal is durable before a byte leaves.
        self.journal.extend(self.session.take_changes());
        self.output.extend_from_slice(&out);
        self.session.flushed();
        for notice in self.session.notices() {
            let Notice::Published { token, outcome } = notice else { panic!() };
            assert!(matches!(outcome, Outcome::Sent | Outcome::Acknowledged(_)), "{outcome:?}");
            *self.outcomes.entry(token).or_default() += 1;
        }
    }

    fn restart(&mut self) {
        // The consumer is the same process: what it had not dealt with is gone, and the server sends it again.
        self.delivered.0.clear();
        self.consumed_up_to = 0;
        self.session = new_session();
        self.session.restore(Restored::from_changes(self.journal.clone()));
    }
}

struct World {
    client: Client,
    broker: Broker,
    next_id: u64,
    published: BTreeMap<u64, u8>,
    sent: BTreeMap<u64, u8>,
    may_be_lost: BTreeSet<u64>,
    session_lost: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            client: Client::new(),
            broker: Broker::default(),
            next_id: 0,
            published: BTreeMap::new(),
            sent: BTreeMap::new(),
            may_be_lost: BTreeSet::new(),
            session_lost: false,
        };
        world.connect(false);
        world
    }

    fn connect(&mut self, session_present: bool) {
        let ack = ConnAck { session_present, code: 0, properties: None };
        self.client.session.on_connack(ack).unwrap();
        self.broker.connected();
    }

    fn cut(&mut self) {
        self.client.output.clear();
        self.client.input.clear();
        self.client.session.connection_lost();
        self.broker.connection_lost();
    }

    fn transfer(&mut self, up: usize, down: usize) -> bool {
        self.client.write();
        self.broker.send();
        let up = self.client.output.split_to(up.min(self.client.output.len()));
        self.broker.input.extend_from_slice(&up);
        self.broker.read();
        let down = self.broker.output.split_to(down.min(self.broker.output.len()));
        self.client.input.extend_from_slice(&down);
        self.client.read();
        !up.is_empty() || !down.is_empty()
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Publish(qos) => {
                let id = self.next_id;
                self.next_id += 1;
                let qos_level = QoS::from_level(qos).unwrap();
                let payload = id.to_string();
                let publish = Publish {
                    topic: "to/server",
                    payload: payload.as_bytes(),
                    qos: qos_level,
                    ..Publish::default()
                };
                self.client.session.publish(id, &publish, Instant::now()).unwrap();
                self.published.insert(id, qos);
            }
            Step::Send(qos) => {
                let id = self.next_id;
                self.next_id += 1;
                self.broker.waiting.push_back((id, qos));
                self.sent.insert(id, qos);
            }
            Step::Transfer(up, down) => drop(self.transfer(up, down)),
            Step::Consume(count) => self.client.consume(count),
            Step::Cut => {
                self.cut();
                self.connect(true);
            }
            Step::Restart => {
                self.cut();
                let kept = Restored::from_changes(self.client.journal.clone());
                let kept: BTreeSet<u64> = kept
                    .sent
                    .iter()
                    .map(|(_, _, wire)| {
                        // An empty property list, then the payload.
                        let payload = &wire[Layout::of(wire).unwrap().body_at as usize + 1..];
                        std::str::from_utf8(payload).unwrap().parse().unwrap()
                    })
                    .collect();
                // Without an outcome and not in the journal: its user was never told that it was sent.
                let open = self.published.keys().filter(|id| !self.client.outcomes.contains_key(id));
                self.may_be_lost.extend(open.filter(|id| !kept.contains(id)));
                // Those in the journal go on, but their user is gone.
                for id in kept {
                    self.client.outcomes.insert(id, 1);
                }
                self.client.restart();
                self.connect(true);
            }
            Step::Forget => {
                self.cut();
                let gone = self.broker.flights.values().map(|(id, _, _)| *id);
                self.may_be_lost.extend(gone);
                self.session_lost = true;
                self.broker.forget();
                self.connect(false);
                // A new session has no subscriptions: nothing comes before SUBSCRIBE, which leaves after the journal.
                self.client.write();
            }
        }
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.client.consume(1000);
            if !self.transfer(usize::MAX, usize::MAX) && self.client.delivered.0.is_empty() {
                return;
            }
        }
        panic!("never comes to rest");
    }

    fn check(&self) {
        let none = Bytes::new();
        assert_eq!(self.client.session.unsettled(), 0);
        assert_eq!((&self.broker.output[..], self.broker.flights.len()), (&none[..], 0));
        for (id, qos) in &self.published {
            let times = self.broker.received.get(id).copied().unwrap_or(0);
            if !self.may_be_lost.contains(id) {
                assert_eq!(self.client.outcomes.get(id), Some(&1), "outcome of {id} (QoS {qos})");
                assert!(*qos == 0 || times > 0, "{id} (QoS {qos}) is lost");
            }
            assert!(*qos != 2 || times <= 1 || self.session_lost, "{id} (QoS 2) came {times} times");
        }
        for (id, qos) in &self.sent {
            let times = self.client.consumed.get(id).copied().unwrap_or(0);
            assert!(*qos == 0 || times > 0 || self.may_be_lost.contains(id), "{id} (QoS {qos}) is lost");
            assert!(*qos != 2 || times <= 1, "{id} (QoS 2) came {times} times");
        }
        if !self.session_lost {
            assert!(self.broker.order.is_sorted(), "QoS 2 out of order: {:?}", self.broker.order);
        }
    }
}

fn play(steps: Vec<Step>) {
    let mut world = World::new();
    steps.into_iter().for_each(|step| world.run(step));
    world.settle();
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_qos_2_is_never_doubled(steps in prop::collection::vec(step(false), 0..120)) {
        play(steps);
    }

    #[test]
    fn a_server_that_forgets_loses_only_what_it_held(steps in prop::collection::vec(step(true), 0..120)) {
        play(steps);
    }
}
