"""What MQTT 3.1.1 and 5.0 ask of a server alike. Each case runs with both."""

import time
import unittest

import client as mqtt
from client import Client


class Both:
    """The cases; subclasses say the version."""

    VERSION = 0

    def connect(self, name="", **arguments):
        """A client whose identifier belongs to this case alone."""
        client_id = f"{self._testMethodName}{self.VERSION}{name}" if name is not None else ""
        if self.VERSION == 5 and not arguments.get("clean", True):
            arguments.setdefault("session_expiry", 60)
        connection = Client(self.VERSION, client_id, **arguments)
        self.addCleanup(connection.close)
        return connection

    def topic(self, tail=""):
        return f"{self._testMethodName}{self.VERSION}{tail}"

    def test_a_message_comes_back_at_every_qos(self):
        """4.3: the QoS of a delivery is the smaller one of message and subscription."""
        for granted in (0, 1, 2):
            with self.connect(granted) as client:
                self.assertEqual(client.subscribe(self.topic(), granted), [granted])
                for qos in (0, 1, 2):
                    client.deliver(self.topic(), f"{qos}", qos)
                    got = client.message()
                    self.assertEqual((got.payload, got.qos), (f"{qos}".encode(), min(qos, granted)))
                    self.assertFalse(got.retain or got.dup)
                client.silent()

    def test_large_and_empty_payloads(self):
        client = self.connect()
        client.subscribe(self.topic(), 1)
        for payload in (b"", b"x", b"y" * 127, b"z" * 16_384, bytes(range(256)) * 4000):
            client.deliver(self.topic(), payload)
            self.assertEqual(client.message().payload, payload)

    def test_messages_keep_their_order(self):
        """4.6: those of one topic and QoS."""
        sender, receiver = self.connect("s"), self.connect("r")
        receiver.subscribe(self.topic(), 2)
        for qos in (0, 1, 2):
            for number in range(50):
                sender.deliver(self.topic(), f"{number}", qos)
            self.assertEqual([m.payload for m in receiver.messages(50)], [f"{n}".encode() for n in range(50)])

    def test_wildcards(self):
        """4.7.1."""
        for pattern, matches, others in [
            ("a/+", ["a/b", "a/"], ["a", "a/b/c"]),
            ("a/#", ["a", "a/", "a/b", "a/b/c"], ["b", "ab"]),
            ("+/b", ["a/b", "/b"], ["b", "a/b/c"]),
            ("a/+/c", ["a/b/c", "a//c"], ["a/c", "a/b/b/c"]),
        ]:
            prefix = self.topic("/")
            with self.connect() as client:
                client.subscribe(prefix + pattern, 1)
                for name in matches + others:
                    client.deliver(prefix + name, name)
                self.assertEqual([m.payload.decode() for m in client.messages(len(matches))], matches, pattern)
                client.silent(0.1)

    def test_dollar_topics_do_not_match_a_leading_wildcard(self):
        """4.7.2."""
        client = self.connect()
        client.subscribe(["+/" + self.topic(), "#"])
        client.publish("$other/" + self.topic(), "hidden")
        client.publish("other/" + self.topic(), "seen")
        while (got := client.message()).topic != "other/" + self.topic():
            self.assertFalse(got.topic.startswith("$"), got)

    def test_retained_message_is_kept_replaced_and_removed(self):
        """3.3.1.3."""
        sender = self.connect("s")
        sender.deliver(self.topic("/a"), "old", retain=True)
        sender.deliver(self.topic("/a"), "new", retain=True)
        sender.deliver(self.topic("/b"), "other", retain=True, qos=2)
        sender.deliver(self.topic("/c"), "not kept")
        with self.connect("r") as receiver:
            receiver.subscribe(self.topic("/+"), 2)
            got = {m.topic: (m.payload, m.retain) for m in receiver.messages(2)}
            self.assertEqual(got, {self.topic("/a"): (b"new", True), self.topic("/b"): (b"other", True)})
            sender.deliver(self.topic("/a"), "live", retain=True)
            self.assertFalse(receiver.message().retain, "a live message is not retained")
        for tail in ("/a", "/b"):
            sender.deliver(self.topic(tail), b"", retain=True)
        with self.connect("r") as receiver:
            receiver.subscribe(self.topic("/+"), 2)
            receiver.silent()

    def test_resubscribing_replaces_and_sends_retained_again(self):
        """3.8.4: an identical filter replaces the subscription."""
        client = self.connect()
        client.deliver(self.topic(), "kept", retain=True)
        for qos in (0, 1):
            self.assertEqual(client.subscribe(self.topic(), qos), [qos])
            got = client.message()
            self.assertEqual((got.retain, got.qos), (True, qos))
        client.deliver(self.topic(), "once")
        self.assertEqual(client.message().qos, 1)
        client.silent()
        client.deliver(self.topic(), b"", retain=True)

    def test_overlapping_subscriptions(self):
        """3.3.4: one copy with the highest QoS, or one for each subscription."""
        client = self.connect()
        client.subscribe(self.topic("/#"), 2)
        client.subscribe(self.topic("/+"), 1)
        client.deliver(self.topic("/a"), "x", 2)
        levels = [client.message().qos]
        while (packet := client.packet(0.3)) is not None:
            levels.append(packet.qos)
        self.assertIn(sorted(levels), ([2], [1, 2]))

    def test_unsubscribe(self):
        client = self.connect()
        client.subscribe([self.topic("/a"), self.topic("/b"), self.topic("/c")], 1)
        client.unsubscribe(self.topic("/a"), self.topic("/c"), self.topic("/never"))
        for tail in "abc":
            client.deliver(self.topic(f"/{tail}"), tail)
        self.assertEqual(client.message().payload, b"b")
        client.silent()

    def test_session_keeps_subscriptions_and_missed_messages(self):
        """4.1, 3.1.2.4: QoS 1 and 2 wait for their client; the flag says that they did."""
        first = self.connect("c", clean=False)
        self.assertFalse(first.connack.session_present)
        first.subscribe(self.topic("/#"), 2)
        first.disconnect()
        sender = self.connect("s")
        for qos in (1, 2):
            for number in range(10):
                sender.deliver(self.topic(f"/{qos}"), f"{number}", qos)
        again = self.connect("c", clean=False)
        self.assertTrue(again.connack.session_present)
        got = [(m.topic, m.payload) for m in again.messages(20)]
        for qos in (1, 2):
            topic = self.topic(f"/{qos}")
            self.assertEqual([p for t, p in got if t == topic], [f"{n}".encode() for n in range(10)])
        again.disconnect()
        clean = self.connect("c", clean=True)
        self.assertFalse(clean.connack.session_present)
        sender.deliver(self.topic("/1"), "late")
        clean.silent()

    def test_unacknowledged_messages_are_sent_again(self):
        """4.4: on reconnect, with DUP and their identifier."""
        client = self.connect("c", clean=False)
        client.subscribe(self.topic("/#"), 2)
        sender = self.connect("s")
        sender.deliver(self.topic("/1"), "one", 1)
        sender.deliver(self.topic("/2"), "two", 2)
        lost = {packet.payload: packet.id for packet in (client.expect(mqtt.PUBLISH), client.expect(mqtt.PUBLISH))}
        client.close()
        again = self.connect("c", clean=False)
        got = [again.message() for _ in range(2)]
        self.assertEqual({m.payload: m.id for m in got}, lost)
        self.assertTrue(all(m.dup for m in got), got)
        again.silent()
        again.disconnect()
        self.connect("c", clean=False).silent()

    def test_unacknowledged_messages_are_sent_again_in_order(self):
        """4.6."""
        client = self.connect("c", clean=False)
        client.subscribe(self.topic(), 1)
        sender = self.connect("s")
        for number in range(5):
            sender.deliver(self.topic(), f"{number}")
            client.expect(mqtt.PUBLISH)
        client.close()
        again = self.connect("c", clean=False)
        self.assertEqual([m.payload for m in again.messages(5)], [f"{n}".encode() for n in range(5)])

    def test_pubrel_is_sent_again(self):
        """4.4: after PUBREC it is the PUBREL that is repeated, not the message."""
        client = self.connect("c", clean=False)
        client.subscribe(self.topic(), 2)
        self.connect("s").deliver(self.topic(), "x", 2)
        got = client.expect(mqtt.PUBLISH)
        client.ack(mqtt.PUBREC, got.id)
        self.assertEqual(client.expect(mqtt.PUBREL).id, got.id)
        client.close()
        again = self.connect("c", clean=False)
        self.assertEqual(again.expect(mqtt.PUBREL).id, got.id)
        again.ack(mqtt.PUBCOMP, got.id)
        again.silent()

    def test_qos_2_is_delivered_once_however_often_it_is_sent(self):
        """4.3.3."""
        receiver, sender = self.connect("r"), self.connect("s")
        receiver.subscribe(self.topic(), 2)
        packet_id = sender.publish(self.topic(), "x", 2)
        sender.answer(mqtt.PUBREC, packet_id)
        sender.publish(self.topic(), "x", 2, dup=True, packet_id=packet_id)
        sender.answer(mqtt.PUBREC, packet_id)
        sender.ack(mqtt.PUBREL, packet_id)
        sender.answer(mqtt.PUBCOMP, packet_id)
        self.assertEqual(receiver.message().payload, b"x")
        receiver.silent()
        sender.deliver(self.topic(), "y", 2, packet_id=packet_id)
        self.assertEqual(receiver.message().payload, b"y", "the identifier is free again")

    def test_will(self):
        """3.1.2.5: published for a lost client, not for one that says goodbye."""
        watcher = self.connect("w")
        watcher.subscribe(self.topic(), 2)
        for qos in (0, 1, 2):
            will = {"topic": self.topic(), "payload": f"will {qos}", "qos": qos}
            self.connect("c", will=will).close()
            got = watcher.message()
            self.assertEqual((got.payload, got.qos, got.retain), (f"will {qos}".encode(), qos, False))
            self.connect("c", will=will).disconnect()
        watcher.silent()

    def test_retained_will(self):
        self.connect("c", will={"topic": self.topic(), "payload": "kept", "qos": 1, "retain": True}).close()
        deadline = time.monotonic() + Client.LIMIT
        got = None
        # It may take a moment, and may then arrive live.
        while (got is None or not got.retain) and time.monotonic() < deadline:
            with self.connect("w") as watcher:
                watcher.subscribe(self.topic(), 1)
                got = watcher.packet(0.2)
        self.assertEqual((got.payload, got.retain), (b"kept", True))
        self.connect("s").deliver(self.topic(), b"", retain=True)

    def test_keep_alive_ends_a_silent_client_and_not_a_pinging_one(self):
        """3.1.2.10: after one and a half times the keep alive; a server may give more."""
        watcher = self.connect("w")
        watcher.subscribe(self.topic())
        will = {"topic": self.topic(), "payload": "silent"}
        silent, pinging = self.connect("s", keep_alive=1, will=will), self.connect("p", keep_alive=1)
        for _ in range(12):
            pinging.send(mqtt.PINGREQ)
            pinging.expect(mqtt.PINGRESP)
            time.sleep(0.5)
        self.assertEqual(watcher.message().payload, b"silent")
        silent.closed(0x8D)
        pinging.send(mqtt.PINGREQ)
        pinging.expect(mqtt.PINGRESP)

    def test_second_connection_takes_over(self):
        """3.1.4: the same client identifier."""
        first = self.connect("twin")
        second = self.connect("twin")
        first.closed(0x8E)
        second.send(mqtt.PINGREQ)
        second.expect(mqtt.PINGRESP)

    def test_empty_client_identifier(self):
        """3.1.3.1: two of them are two clients."""
        one, two = self.connect(None), self.connect(None)
        for client in (one, two):
            client.subscribe(self.topic())
        one.publish(self.topic(), "x")
        self.assertEqual([one.message().payload, two.message().payload], [b"x", b"x"])

    def test_refused_subscription(self):
        """3.9.3; the broker must have been started to refuse test/nosubscribe with 0x80."""
        client = self.connect()
        self.assertEqual(client.subscribe(["test/nosubscribe", self.topic()], 1), [0x80, 1])
        client.deliver("test/nosubscribe", "x")
        client.deliver(self.topic(), "y")
        self.assertEqual(client.message().payload, b"y")

    def test_protocol_errors_close_the_connection(self):
        for name, data in {
            "second CONNECT": b"\x10\x0c\0\x04MQTT" + bytes([self.VERSION, 2, 0, 60, 0, 0]),
            "reserved type 0": b"\x00\x00",
            "wildcard in PUBLISH": b"\x30\x05\0\x03a/#" if self.VERSION == 4 else b"\x30\x06\0\x03a/#\0",
            "QoS 3": b"\x36\x06\0\x01a\0\x01x",
            "identifier 0": b"\x32\x05\0\x01a\0\0" if self.VERSION == 4 else b"\x32\x06\0\x01a\0\0\0",
            "SUBSCRIBE without filters": b"\x82\x02\0\x01" if self.VERSION == 4 else b"\x82\x03\0\x01\0",
            "SUBSCRIBE with wrong flags": b"\x80\x06\0\x01\0\x01a\0",
            "length of five bytes": b"\x30\xff\xff\xff\xff\x7f",
            "topic that is no UTF-8": b"\x30\x05\0\x02\xff\xfe\0",
        }.items():
            with self.subTest(name), self.connect() as client:
                client.raw(data)
                client.closed()


class Mqtt311(Both, unittest.TestCase):
    VERSION = 4

    def test_empty_client_identifier_needs_a_clean_session(self):
        """3.1.1, 3.1.3.1."""
        Client(4, "", clean=False, expect=2).close()


class Mqtt5(Both, unittest.TestCase):
    VERSION = 5
