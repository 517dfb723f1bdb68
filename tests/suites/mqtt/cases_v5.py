"""What only MQTT 5.0 has."""

import time
import unittest

import client as mqtt
from client import Client


class Only5(unittest.TestCase):
    def connect(self, name="", **arguments):
        connection = Client(5, f"{self._testMethodName}{name}", **arguments)
        self.addCleanup(connection.close)
        return connection

    def topic(self, tail=""):
        return f"{self._testMethodName}{tail}"

    def test_properties_pass_unchanged(self):
        """3.3.2.3: user properties in their order, names more than once."""
        client = self.connect()
        client.subscribe(self.topic(), 2)
        sent = {
            "payload_format": 1, "content_type": "text/ünïcode", "response_topic": "answers",
            "correlation_data": b"\0\xff", "user": [("a", "1"), ("b", ""), ("a", "2")],
        }
        for qos in (0, 1, 2):
            client.deliver(self.topic(), "x", qos, **sent)
            self.assertEqual(client.message().properties, sent)

    def test_message_expiry(self):
        """3.3.2.3.3: the remaining time is told, and an expired message not delivered."""
        client = self.connect("r", clean=True, session_expiry=60)
        client.subscribe(self.topic("/#"), 1)
        client.disconnect()
        sender = self.connect("s")
        sender.deliver(self.topic("/short"), "x", message_expiry=1)
        sender.deliver(self.topic("/long"), "x", message_expiry=100)
        sender.deliver(self.topic("/for ever"), "x")
        sender.deliver(self.topic("/kept"), "x", message_expiry=1, retain=True)
        time.sleep(2.1)
        again = self.connect("r", clean=False, session_expiry=60)
        got = {m.topic: m.properties.get("message_expiry") for m in again.messages(2)}
        again.silent()
        self.assertEqual(sorted(got), [self.topic("/for ever"), self.topic("/long")])
        self.assertIsNone(got[self.topic("/for ever")])
        self.assertIn(got[self.topic("/long")], (96, 97, 98))
        late = self.connect("late")
        late.subscribe(self.topic("/kept"))
        late.silent()

    def test_retained_expiry_runs_on_while_it_is_kept(self):
        client = self.connect()
        client.deliver(self.topic(), "x", retain=True, message_expiry=100)
        time.sleep(1.5)
        client.subscribe(self.topic())
        self.assertIn(client.message().properties["message_expiry"], (96, 97, 98))
        client.deliver(self.topic(), b"", retain=True)

    def test_session_expiry(self):
        """3.1.2.11.2, 3.14.2.2.2."""
        self.connect("c", session_expiry=60).disconnect()
        again = self.connect("c", clean=False, session_expiry=60)
        self.assertTrue(again.connack.session_present)
        again.disconnect(session_expiry=0)
        again = self.connect("c", clean=False, session_expiry=1)
        self.assertFalse(again.connack.session_present, "ended by DISCONNECT")
        again.disconnect()
        time.sleep(2)
        again = self.connect("c", clean=False)
        self.assertFalse(again.connack.session_present, "ended by time")
        again.disconnect()
        self.assertFalse(self.connect("c", clean=False).connack.session_present, "0 by default")

    def test_will_delay(self):
        """3.1.3.2.2: it waits, and does not come if the client does."""
        watcher = self.connect("w")
        watcher.subscribe(self.topic())
        will = {"topic": self.topic(), "payload": "gone", "properties": {"will_delay": 1, "user": [("a", "b")]}}
        self.connect("c", will=will, session_expiry=60).close()
        watcher.silent(0.5)
        got = watcher.message(3)
        self.assertEqual((got.payload, got.properties.get("user")), (b"gone", [("a", "b")]))
        self.connect("c", clean=False, will=will, session_expiry=60).close()
        watcher.silent(0.3)
        back = self.connect("c", clean=False, session_expiry=60)
        watcher.silent(1.5)
        back.disconnect()

    def test_will_at_the_end_of_the_session(self):
        """3.1.3.2.2: not later than the session."""
        watcher = self.connect("w")
        watcher.subscribe(self.topic())
        will = {"topic": self.topic(), "payload": "gone", "properties": {"will_delay": 60}}
        self.connect("c", will=will, session_expiry=1).close()
        self.assertEqual(watcher.message(5).payload, b"gone")

    def test_will_with_disconnect_4(self):
        """3.14.2.1: "disconnect with will message"."""
        watcher = self.connect("w")
        watcher.subscribe(self.topic())
        self.connect("c", will={"topic": self.topic(), "payload": "asked for"}).disconnect(4)
        self.assertEqual(watcher.message().payload, b"asked for")

    def test_subscription_options(self):
        """3.8.3.1."""
        client = self.connect("c")
        other = self.connect("o")
        client.subscribe(self.topic("/mine"), 2, no_local=True)
        client.subscribe(self.topic("/flag"), 2, as_published=True)
        client.deliver(self.topic("/mine"), "own")
        other.deliver(self.topic("/mine"), "other")
        self.assertEqual(client.message().payload, b"other")
        other.deliver(self.topic("/flag"), "x", retain=True)
        self.assertTrue(client.message().retain)
        other.deliver(self.topic("/flag"), "y")
        self.assertFalse(client.message().retain)
        client.silent()
        other.deliver(self.topic("/flag"), b"", retain=True)

    def test_retain_handling(self):
        """3.8.3.1: 0 always, 1 for a new subscription, 2 never."""
        client = self.connect()
        client.deliver(self.topic(), "kept", retain=True)
        for handling, comes in ((2, False), (1, False), (0, True), (1, False), (0, True)):
            client.subscribe(self.topic(), 1, handling=handling)
            if comes:
                self.assertTrue(client.message().retain)
            client.silent(0.2)
        client.unsubscribe(self.topic())
        client.subscribe(self.topic(), 1, handling=1)
        self.assertTrue(client.message().retain)
        client.deliver(self.topic(), b"", retain=True)

    def test_subscription_identifiers(self):
        """3.8.2.1.2: those of all matching subscriptions, in one copy or several."""
        client = self.connect()
        client.subscribe(self.topic("/#"), 2, subscription_id=7)
        client.subscribe(self.topic("/a"), 2, subscription_id=268_435_455)
        client.deliver(self.topic("/b"), "x")
        self.assertEqual(client.message().properties["subscription_id"], [7])
        client.deliver(self.topic("/a"), "x")
        found = list(client.message().properties["subscription_id"])
        if len(found) == 1:
            found += client.message().properties["subscription_id"]
        self.assertEqual(sorted(found), [7, 268_435_455])

    def test_shared_subscriptions(self):
        """4.8.2: each message to one member of each group."""
        members = [self.connect(f"m{number}") for number in range(2)]
        alone = self.connect("a")
        alone.subscribe(self.topic("/#"), 1)
        for member in members:
            self.assertEqual(member.subscribe(f"$share/group/{self.topic('/#')}", 1), [1])
        sender = self.connect("s")
        sender.deliver(self.topic("/kept"), "k", retain=True)
        for number in range(10):
            sender.deliver(self.topic("/a"), f"{number}")
        self.assertEqual(len(alone.messages(11)), 11)
        got = []
        for member in members:
            own = []
            while (packet := member.packet(0.3)) is not None:
                own.append(packet.payload)
                member.ack(mqtt.PUBACK, packet.id)
            self.assertGreater(len(own), 2, "a fair share")
            got += own
        self.assertEqual(sorted(got), sorted([b"k"] + [f"{n}".encode() for n in range(10)]))
        sender.deliver(self.topic("/kept"), b"", retain=True)

    def test_shared_subscriptions_get_no_retained_messages(self):
        """4.8.2."""
        client = self.connect()
        client.deliver(self.topic(), "kept", retain=True)
        client.subscribe(f"$share/group/{self.topic()}", 1)
        got = client.packet(0.3)
        client.deliver(self.topic(), b"", retain=True)
        self.assertIsNone(got)

    def test_groups_and_plain_subscriptions_with_one_filter_are_separate(self):
        """4.8.2: each group, and the plain subscription, has its own copy."""
        client = self.connect()
        for name in (f"$share/one/{self.topic()}", f"$share/two/{self.topic()}", self.topic()):
            self.assertEqual(client.subscribe(name, 1), [1])
        client.deliver(self.topic(), "x")
        self.assertEqual(len(client.messages(3)), 3)

    def test_no_local_on_a_shared_subscription(self):
        """3.8.3.1: a protocol error."""
        client = self.connect()
        client.subscribe(f"$share/group/{self.topic()}", 1, no_local=True)
        client.closed(0x82)

    def test_request_and_response(self):
        """4.10."""
        asker, answerer = self.connect("q"), self.connect("a")
        answerer.subscribe(self.topic("/question"), 1)
        asker.subscribe(self.topic("/answer"), 1)
        asker.deliver(self.topic("/question"), "2+2", response_topic=self.topic("/answer"), correlation_data=b"42")
        question = answerer.message()
        answerer.deliver(question.properties["response_topic"], "4",
                         correlation_data=question.properties["correlation_data"])
        answer = asker.message()
        self.assertEqual((answer.payload, answer.properties["correlation_data"]), (b"4", b"42"))

    def test_receive_maximum_of_the_client(self):
        """4.9: no more unacknowledged messages than the client takes."""
        client = self.connect("r", receive_maximum=3)
        client.subscribe(self.topic(), 2)
        sender = self.connect("s")
        for number in range(10):
            sender.deliver(self.topic(), f"{number}", 1 + number % 2)
        waiting = [client.expect(mqtt.PUBLISH) for _ in range(3)]
        client.silent()
        seen = []
        while waiting:
            packet = waiting.pop(0)
            seen.append(packet.payload)
            if packet.qos == 1:
                client.ack(mqtt.PUBACK, packet.id)
            else:
                client.ack(mqtt.PUBREC, packet.id)
                client.answer(mqtt.PUBREL, packet.id)
                client.ack(mqtt.PUBCOMP, packet.id)
            if len(seen) + len(waiting) < 10:
                waiting.append(client.expect(mqtt.PUBLISH))
        self.assertEqual(seen, [f"{n}".encode() for n in range(10)])

    def test_receive_maximum_of_the_server(self):
        """4.9: more is a protocol error, 0x93."""
        client = self.connect()
        allowed = client.connack.properties.get("receive_maximum", 65_535)
        if allowed > 5000:
            self.skipTest(f"a receive maximum of {allowed}")
        for _ in range(allowed + 1):
            client.publish(self.topic(), "x", 2)
        client.closed(0x93)

    def test_topic_alias_towards_the_server(self):
        """3.3.2.3.4."""
        client = self.connect()
        client.subscribe(self.topic("/#"))
        allowed = client.connack.properties.get("topic_alias_maximum", 0)
        if allowed:
            client.publish(self.topic("/a"), "1", topic_alias=1)
            client.publish("", "2", topic_alias=1)
            client.publish(self.topic("/b"), "3", topic_alias=1)
            client.publish("", "4", topic_alias=1)
            got = [(m.topic, m.payload) for m in client.messages(4)]
            a, b = self.topic("/a"), self.topic("/b")
            self.assertEqual(got, [(a, b"1"), (a, b"2"), (b, b"3"), (b, b"4")])
        client.publish(self.topic("/a"), "x", topic_alias=allowed + 1)
        client.closed(0x94)

    def test_topic_alias_towards_the_client(self):
        """3.1.2.11.5: not above what the client takes, and by default none."""
        for allowed in (0, 2):
            arguments = {"topic_alias_maximum": allowed} if allowed else {}
            with self.connect(allowed, **arguments) as client:
                client.subscribe(self.topic("/#"))
                known, topics = {}, [self.topic(f"/{number % 4}") for number in range(12)]
                for topic in topics:
                    client.publish(topic, "x")
                for topic in topics:
                    got = client.message()
                    alias = got.properties.get("topic_alias")
                    self.assertTrue(alias is None or 1 <= alias <= allowed, got)
                    if got.topic and alias:
                        known[alias] = got.topic
                    self.assertEqual(got.topic or known[alias], topic)

    def test_maximum_packet_size_of_the_client(self):
        """3.1.2.11.4: a larger message is left out."""
        client = self.connect(maximum_packet_size=200)
        client.subscribe(self.topic(), 1)
        client.deliver(self.topic(), "x" * 300)
        client.deliver(self.topic(), "small")
        self.assertEqual(client.message().payload, b"small")

    def test_maximum_packet_size_of_the_server(self):
        """3.2.2.3.6: 0x95."""
        client = self.connect()
        allowed = client.connack.properties.get("maximum_packet_size", 268_435_460)
        if allowed > 64 * 1024 * 1024:
            self.skipTest(f"a maximum of {allowed} bytes")
        try:
            client.publish(self.topic(), b"x" * allowed)
        except OSError:
            pass
        client.closed(0x95)

    def test_server_keep_alive(self):
        """3.2.2.3.14; the broker must have been started with a maximum of 60 s."""
        client = self.connect(keep_alive=120)
        self.assertEqual(client.connack.properties.get("server_keep_alive"), 60)

    def test_assigned_client_identifier(self):
        """3.1.3.1."""
        names = set()
        for _ in range(2):
            client = Client(5, "")
            self.addCleanup(client.close)
            names.add(client.connack.properties["assigned_client_id"])
        self.assertEqual(len(names), 2)
        unclean = Client(5, "", clean=False, session_expiry=60)
        self.addCleanup(unclean.close)
        self.assertNotIn(unclean.connack.properties["assigned_client_id"], names)
        self.assertFalse(unclean.connack.session_present)
        self.assertNotIn("assigned_client_id", self.connect().connack.properties)

    def test_reason_codes_of_success(self):
        client = self.connect()
        self.assertIn(client.deliver(self.topic(), "x", 1).code, (0, 0x10))
        self.assertIn(client.deliver(self.topic(), "x", 2).code, (0, 0x10))
        self.assertEqual(client.subscribe([self.topic("/a"), self.topic("/b")], 2), [2, 2])
        codes = client.unsubscribe(self.topic("/a"), self.topic("/never"))
        self.assertEqual(codes[0], 0)
        self.assertIn(codes[1], (0, 0x11))

    def test_payload_format_passes(self):
        client = self.connect()
        client.subscribe(self.topic())
        client.publish(self.topic(), "ü", payload_format=1, content_type="text/plain")
        got = client.message()
        self.assertEqual((got.properties["payload_format"], got.payload.decode()), (1, "ü"))

    def test_unknown_authentication_method_is_refused(self):
        """4.12: 0x8C."""
        Client(5, self.topic(), auth_method="no such method", expect=0x8C).close()

    def test_protocol_errors_are_told(self):
        """4.13."""
        for name, data, codes in [
            ("subscription identifier 0", b"\x82\x09\0\x01\x02\x0b\x00\0\x01a\0", (0x81, 0x82)),
            ("a property twice", b"\x30\x0a\0\x01a\x06\x23\0\x01\x23\0\x01", (0x81, 0x82)),
            ("an unknown property", b"\x30\x06\0\x01a\x02\x7f\0", (0x81, 0x82)),
        ]:
            with self.subTest(name), self.connect() as client:
                client.raw(data)
                try:
                    packet = client.packet()
                    self.assertEqual((packet.kind, packet.code in codes), (mqtt.DISCONNECT, True), packet)
                    client.closed()
                except mqtt.Closed:
                    pass
