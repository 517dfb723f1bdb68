"""Observing (RFC 7641), and responses that come by themselves (RFC 7252 section 5.2.2)."""

import time

from cases_messages import Case
from client import (
    ACCEPT, ACK, CON, CONTENT_FORMAT, DELETE, EMPTY, GET, JSON, NON, OBSERVE, PUT, Client, code, uint,
)


class Observing(Case):
    def observed(self, content="0"):
        """A client that observes a resource of this case."""
        client, where = self.client(), self.resource(content)
        first = client.observe(where)
        self.assertEqual((first.status, first.payload), ("2.05", content.encode()), str(first))
        self.assertIsNotNone(first.option(OBSERVE), str(first))
        return client, where, first

    def test_changes_are_told_in_order(self):
        """3.4 and 4.4: with growing numbers of at most 24 bits, and the newest state at last."""
        client, where, first = self.observed()
        other, before = self.client(), first.number(OBSERVE)
        for number in range(1, 8):
            other.put(where, str(number))
            told = client.notification(first.token)
            self.assertEqual((told.status, told.payload), ("2.05", str(number).encode()), str(told))
            sequence = told.number(OBSERVE)
            self.assertTrue(len(told.option(OBSERVE)) <= 3 and sequence > before, str(told))
            before = sequence

    def test_the_newest_state_comes_at_last(self):
        """1.3 and 4.5: not all states need to be told."""
        client, where, first = self.observed()
        other = self.client()
        for number in range(1, 51):
            other.put(where, str(number))
        told = first
        while told is not None and told.payload != b"50":
            told = client.notification(first.token)
        self.assertIsNotNone(told, "the last state was never told")

    def test_no_second_one_before_the_first_is_acknowledged(self):
        """4.5.1: one outstanding confirmable notification."""
        client, where, first = self.observed()
        other = self.client()
        other.put(where, "1")
        told = client.receive()
        if told.type == CON:
            other.put(where, "2")
            again = client.receive(1)
            self.assertTrue(again is None or again.id == told.id, f"{told}, then {again}")
            client.acknowledge(told)
            self.assertEqual(client.notification(first.token).payload, b"2")

    def test_some_are_confirmable(self):
        """4.5: so that whoever is gone is found out."""
        client, where, first = self.observed()
        other, kinds = self.client(), set()
        for number in range(1, 25):
            other.put(where, str(number))
            message = client.receive()
            kinds.add(message.type)
            if message.type == CON:
                client.acknowledge(message)
        self.assertIn(CON, kinds)
        self.assertTrue(first)

    def test_an_unanswered_one_is_sent_again(self):
        """RFC 7252 section 4.2: the same message, after ACK_TIMEOUT."""
        client, where, first = self.observed()
        other, number = self.client(), 0
        while True:
            number += 1
            other.put(where, str(number))
            told = client.receive()
            if told.type == CON:
                break
        started = time.monotonic()
        again = client.receive(10)
        self.assertIsNotNone(again, "it was not sent again")
        self.assertEqual((again.id, again.token), (told.id, first.token))
        # After 2 to 3 s; a busy machine may have shown the first one late.
        self.assertGreater(time.monotonic() - started, 0.5)
        client.acknowledge(again)

    def test_a_reset_ends_it(self):
        """3.6: whether the notification is confirmable or not."""
        client, where, first = self.observed()
        other = self.client()
        other.put(where, "1")
        client.reset(client.receive())
        client.is_alive()
        other.put(where, "2")
        client.is_silent()
        self.assertTrue(first)

    def test_it_can_be_cancelled(self):
        """3.6: a GET with Observe 1 and the token."""
        client, where, first = self.observed()
        answer = client.ask(GET, where, [(OBSERVE, uint(1))], token=first.token)
        self.assertEqual((answer.status, answer.option(OBSERVE)), ("2.05", None), str(answer))
        self.client().put(where, "1")
        client.is_silent()

    def test_registering_again_makes_no_second_observer(self):
        """4.1: the same token and resource."""
        client, where, first = self.observed()
        again = client.ask(GET, where, [(OBSERVE, b"")], token=first.token)
        self.assertIsNotNone(again.option(OBSERVE), str(again))
        self.client().put(where, "1")
        told = client.notification(first.token)
        self.assertEqual(told.payload, b"1")
        client.is_silent()

    def test_two_tokens_are_two_observations(self):
        client, where, first = self.observed()
        second = client.observe(where)
        self.client().put(where, "1")
        told = set()
        while len(told) < 2:
            message = client.receive()
            self.assertIsNotNone(message, f"only {told} came")
            if message.type == CON:
                client.acknowledge(message)
            told.add(message.token)
        self.assertEqual(told, {first.token, second.token})

    def test_what_is_not_there_can_not_be_observed(self):
        """4.1: an error has no Observe."""
        answer = self.client().observe("suite/not/there")
        self.assertEqual((answer.status, answer.option(OBSERVE)), ("4.04", None), str(answer))

    def test_a_removal_is_the_last_that_is_told(self):
        """4.2: 4.04 without Observe."""
        client, where, first = self.observed()
        other = self.client()
        other.ask(DELETE, where)
        told = client.notification(first.token)
        self.assertEqual((told.status, told.option(OBSERVE)), ("4.04", None), str(told))
        other.put(where, "again")
        client.is_silent()

    def test_accept_holds_for_notifications_too(self):
        """4.2: 4.06 ends it."""
        where = self.resource("{}", [(CONTENT_FORMAT, uint(JSON))])
        client, other = self.client(), self.client()
        first = client.observe(where, [(ACCEPT, uint(JSON))])
        other.put(where, "[]", [(CONTENT_FORMAT, uint(JSON))])
        self.assertEqual(client.notification(first.token).payload, b"[]")
        other.put(where, "text", [(CONTENT_FORMAT, b"")])
        told = client.notification(first.token)
        self.assertEqual((told.status, told.option(OBSERVE)), ("4.06", None), str(told))

    def test_observe_means_nothing_to_other_methods(self):
        """2: it is elective."""
        answer = self.client().ask(PUT, self.resource(), [(OBSERVE, b"")], "x")
        self.assertEqual((answer.status, answer.option(OBSERVE)), ("2.04", None), str(answer))

    def test_a_registration_that_is_not_confirmable(self):
        client, where = self.client(), self.resource("0")
        first = client.ask(GET, where, [(OBSERVE, b"")], kind=NON)
        self.assertEqual((first.type, first.status), (NON, "2.05"), str(first))
        self.client().put(where, "1")
        self.assertEqual(client.notification(first.token).payload, b"1")


class Separate(Case):
    """RFC 7252 section 5.2.2, with a server or resource that takes its time: --slow."""

    ADDRESS, PATH = None, ""

    def setUp(self):
        if self.ADDRESS is None:
            self.skipTest("no --slow")

    def slow(self):
        client = Client(self.ADDRESS)
        self.addCleanup(client.close)
        return client

    def ask(self, client, kind):
        message = client.message(GET, self.PATH, kind=kind)
        client.send(message)
        return message

    def test_the_acknowledgement_comes_first(self):
        client = self.slow()
        message = self.ask(client, CON)
        first = client.receive()
        self.assertEqual((first.type, first.code, first.id, first.token), (ACK, EMPTY, message.id, b""), str(first))
        second = client.receive()
        self.assertEqual((second.type, second.token), (CON, message.token), str(second))
        self.assertGreaterEqual(second.code, code("2.01"))
        client.acknowledge(second)
        client.is_silent(4)

    def test_a_response_that_is_not_acknowledged_is_sent_again(self):
        """4.2."""
        client = self.slow()
        message = self.ask(client, CON)
        self.assertEqual(client.receive().code, EMPTY)
        second, third = client.receive(), client.receive(10)
        self.assertIsNotNone(third, "it was not sent again")
        self.assertEqual((third.encode(), third.token), (second.encode(), message.token))
        client.acknowledge(third)

    def test_a_request_that_comes_again_meanwhile_is_acknowledged_again(self):
        """4.5: and done once."""
        client = self.slow()
        message = self.ask(client, CON)
        self.assertEqual(client.receive().code, EMPTY)
        client.send(message)
        again = client.receive()
        self.assertEqual((again.type, again.code, again.id), (ACK, EMPTY, message.id), str(again))
        answer = client.receive()
        self.assertEqual((answer.type, answer.token), (CON, message.token), str(answer))
        client.acknowledge(answer)
        client.is_silent(4)

    def test_a_reset_ends_the_retransmission(self):
        """4.2."""
        client = self.slow()
        self.ask(client, CON)
        self.assertEqual(client.receive().code, EMPTY)
        client.reset(client.receive())
        client.is_silent(4)

    def test_what_is_not_confirmable_is_not_acknowledged(self):
        client = self.slow()
        message = self.ask(client, NON)
        answer = client.receive()
        self.assertEqual((answer.type, answer.token), (NON, message.token), str(answer))
