"""The message layer (RFC 7252 sections 3 and 4): what is a message, what is rejected, what is ignored, what comes twice."""

import struct
import unittest

from client import (
    ACK, CON, CONTENT_FORMAT, EMPTY, GET, IF_MATCH, NON, POST, PROXY_SCHEME, PROXY_URI, PUT, RST, TEXT, URI_HOST, URI_PATH,
    URI_PORT, URI_QUERY, Client, Message, code, uint,
)


class Case(unittest.TestCase):
    def client(self):
        client = Client()
        self.addCleanup(client.close)
        return client

    def resource(self, content="content", options=((CONTENT_FORMAT, uint(TEXT)),)):
        """A resource of this case alone; returns its path."""
        where = f"suite/{self._testMethodName}"
        answer = self.client().put(where, content, options)
        self.assertIn(answer.status, ("2.01", "2.04"), str(answer))
        return where


class Messages(Case):
    def test_a_ping_is_answered_with_a_reset(self):
        """4.3: an empty confirmable message."""
        client = self.client()
        client.send(Message(CON, EMPTY, 0x1234))
        answer = client.receive()
        self.assertEqual((answer.type, answer.code, answer.id, answer.token), (RST, EMPTY, 0x1234, b""))

    def test_a_confirmable_request_gets_its_response_with_the_acknowledgement(self):
        answer = self.client().get(self.resource("here"))
        self.assertEqual((answer.type, answer.status, answer.payload), (ACK, "2.05", b"here"), str(answer))

    def test_a_non_confirmable_request_gets_a_non_confirmable_response(self):
        """5.2.3: with a message id of the server's own."""
        client = self.client()
        where = self.resource("here")
        answer = client.ask(GET, where, kind=NON)
        self.assertEqual((answer.type, answer.status, answer.payload), (NON, "2.05", b"here"), str(answer))

    def test_tokens_of_every_length_come_back(self):
        """5.3.1: from none to eight bytes."""
        client, where = self.client(), self.resource()
        for length in range(9):
            token = bytes(range(1, length + 1))
            answer = client.ask(GET, where, token=token)
            self.assertEqual((answer.status, answer.token), ("2.05", token))

    def test_reserved_token_lengths_are_message_format_errors(self):
        """3: lengths 9 to 15 must not be processed; a confirmable message is rejected (4.2)."""
        client = self.client()
        for length in range(9, 16):
            client.send(bytes([0x40 | length, GET]) + struct.pack("!H", 500 + length) + bytes(16))
            answer = client.receive()
            self.assertEqual((answer.type, answer.code, answer.id), (RST, EMPTY, 500 + length))
        for length in range(9, 16):
            client.send(bytes([0x50 | length, GET]) + struct.pack("!H", 600 + length) + bytes(16))
        client.is_alive(resets=True)

    def test_other_versions_are_ignored(self):
        """3: silently."""
        client = self.client()
        for version in (0, 2, 3):
            good = client.message(GET, self.resource()).encode()
            client.send(bytes([good[0] & 0x3F | version << 6]) + good[1:])
        client.is_alive()

    def test_what_is_cut_off_is_no_message(self):
        """3: fewer than four bytes are ignored; a confirmable message with half a token or option is rejected."""
        client = self.client()
        for length in range(4):
            client.send(b"\x40\x01\x00\x00"[:length])
        client.is_alive()
        token, segments = b"token", ["", "suite", "suite/long-enough-to-be-cut"]
        # Between token and options, and between two options, it is a message after all.
        bounds = {len(client.message(GET, where, token=token).encode()) for where in segments}
        whole = client.message(GET, segments[-1], [(URI_QUERY, b"x" * 20)], token=token).encode()
        for length in range(5, len(whole)):
            # Each with an id of its own, or it would be the same message again.
            client.send(whole[:2] + struct.pack("!H", 0x2000 + length) + whole[4:length])
            answer = client.receive()
            self.assertEqual((answer.type, answer.id), (ACK if length in bounds else RST, 0x2000 + length), str(answer))

    def test_an_empty_message_with_content_is_rejected(self):
        """4.1: token, options or payload."""
        client = self.client()
        for tail in (b"\x11", b"\x51x", b"\xffx"):
            kind = 0x41 if tail == b"\x11" else 0x40
            client.send(bytes([kind, EMPTY, 0x30, tail[0]]) + tail)
            answer = client.receive()
            self.assertEqual((answer.type, answer.code, answer.id), (RST, EMPTY, 0x3000 | tail[0]), str(answer))

    def test_a_marker_without_a_payload_is_rejected(self):
        """3: a message format error."""
        client = self.client()
        message = client.message(GET, self.resource())
        client.send(message.encode() + b"\xff")
        answer = client.receive()
        self.assertEqual((answer.type, answer.code, answer.id), (RST, EMPTY, message.id), str(answer))

    def test_reserved_nibbles_of_options_are_rejected(self):
        """3.1: 15 in delta or length."""
        client = self.client()
        for option in (b"\xf0", b"\x0f", b"\xf1x", b"\x1fx"):
            message = client.message(GET, self.resource())
            client.send(message.encode() + option)
            answer = client.receive()
            self.assertEqual((answer.type, answer.code, answer.id), (RST, EMPTY, message.id), str(answer))

    def test_option_numbers_beyond_16_bits_are_rejected(self):
        client = self.client()
        head = bytes([0x40, GET]) + struct.pack("!H", 0x0777)
        client.send(head + b"\xe0\xff\xff" + b"\xe0\xff\xff")
        answer = client.receive()
        self.assertEqual((answer.type, answer.code, answer.id), (RST, EMPTY, 0x0777), str(answer))

    def test_codes_of_reserved_classes_are_rejected(self):
        """3 and 4.2: classes 1, 6 and 7."""
        client = self.client()
        for number, reserved in enumerate((code("1.00"), code("6.01"), code("7.31"))):
            client.send(Message(CON, reserved, 900 + number))
            answer = client.receive()
            self.assertEqual((answer.type, answer.code, answer.id), (RST, EMPTY, 900 + number), str(answer))

    def test_a_response_that_nobody_asked_for_is_rejected(self):
        """4.2: a confirmable one."""
        client = self.client()
        client.send(Message(CON, code("2.05"), 0x0815, b"\x99"))
        answer = client.receive()
        self.assertEqual((answer.type, answer.code, answer.id), (RST, EMPTY, 0x0815), str(answer))

    def test_acknowledgements_and_resets_out_of_nowhere_are_ignored(self):
        """4.2 and 4.3."""
        client = self.client()
        for kind in (ACK, RST):
            for what in (EMPTY, GET, code("2.05")):
                client.send(Message(kind, what, 0x0F00 + what))
        client.send(Message(NON, EMPTY, 0x0F99))
        client.is_alive()

    def test_a_method_that_nobody_knows_gets_405(self):
        """5.8."""
        client, where = self.client(), self.resource()
        for method in (8, 20, 31):
            answer = client.ask(method, where)
            self.assertEqual((answer.type, answer.status), (ACK, "4.05"), str(answer))

    def test_a_datagram_of_the_largest_size(self):
        """A payload of 60,000 bytes is no block, but it is a message; or too large for the server, which says so."""
        client = self.client()
        answer = client.put("suite/large", b"x" * 60_000)
        self.assertIn(answer.status, ("2.01", "2.04", "4.13"), str(answer))


class Duplicates(Case):
    def test_a_request_that_comes_again_gets_the_same_answer_and_is_not_done_again(self):
        """4.2 and 4.5: a POST, which makes something each time."""
        client = self.client()
        message = client.message(POST, "posts", [(URI_PATH, b"")], "made once")
        client.send(message)
        first = client.receive()
        for _ in range(3):
            client.send(message)
            again = client.receive()
            self.assertEqual(again.encode(), first.encode())
        other = client.ask(POST, "posts", [(URI_PATH, b"")], "made once")
        self.assertEqual((first.status, other.status), ("2.01", "2.01"))
        self.assertNotEqual(other.options, first.options)

    def test_what_comes_again_is_answered_from_memory(self):
        """4.5: also after the resource has changed."""
        client, where = self.client(), self.resource("before")
        message = client.message(PUT, where, payload="first")
        client.send(message)
        first = client.receive()
        self.assertEqual(self.client().put(where, "second").status, "2.04")
        client.send(message)
        self.assertEqual(client.receive().encode(), first.encode())
        self.assertEqual(client.get(where).payload, b"second")

    def test_a_non_confirmable_request_that_comes_again_is_ignored(self):
        """4.5."""
        client, where = self.client(), self.resource()
        message = client.message(GET, where, kind=NON)
        client.send(message)
        self.assertEqual(client.receive().status, "2.05")
        client.send(message)
        client.is_alive()

    def test_the_same_id_of_another_endpoint_is_another_message(self):
        """4.4."""
        first, second, where = self.client(), self.client(), self.resource("x")
        message = first.message(GET, where)
        for client in (first, second):
            client.send(message)
            self.assertEqual((answer := client.receive()).status, "2.05", str(answer))

    def test_the_same_token_may_be_used_again(self):
        client, where = self.client(), self.resource("x")
        for _ in range(2):
            self.assertEqual(client.ask(GET, where, token=b"same").payload, b"x")


class CriticalOptions(Case):
    def test_a_critical_option_that_is_not_understood_gets_402(self):
        """5.4.1: and a diagnostic payload should name it."""
        client, where = self.client(), self.resource()
        for number in (65001, 2051, 19, 9999):
            answer = client.get(where, [(number, b"x")])
            self.assertEqual((answer.type, answer.status), (ACK, "4.02"), f"{number}: {answer}")
            self.assertTrue(answer.payload.decode(), "no diagnostic payload")

    def test_a_non_confirmable_request_with_one_is_rejected(self):
        """5.4.1 and 4.3: without a response; a reset may come."""
        client, where = self.client(), self.resource()
        message = client.message(GET, where, [(65001, b"x")], kind=NON)
        client.send(message)
        answer = client.receive(0.5)
        if answer is not None:
            self.assertEqual((answer.type, answer.code, answer.id), (RST, EMPTY, message.id), str(answer))
        client.is_alive()

    def test_elective_options_that_are_not_understood_are_ignored(self):
        client, where = self.client(), self.resource()
        for number in (65000, 2050, 10):
            self.assertEqual(client.get(where, [(number, b"x" * 300)]).status, "2.05")

    def test_a_second_value_of_what_may_not_be_repeated_is_not_understood(self):
        """5.4.5."""
        answer = self.client().get(self.resource(), [(URI_HOST, b"a"), (URI_HOST, b"b")])
        self.assertEqual(answer.status, "4.02", str(answer))

    def test_values_of_wrong_lengths_are_not_understood(self):
        """5.4.3: an If-Match of nine bytes."""
        answer = self.client().get(self.resource(), [(IF_MATCH, bytes(9))])
        self.assertEqual(answer.status, "4.02", str(answer))

    def test_this_is_no_proxy(self):
        """5.10.2: 5.05."""
        client = self.client()
        for options in ([(PROXY_URI, b"coap://example.com/")], [(PROXY_SCHEME, b"http"), (URI_HOST, b"example.com")]):
            answer = client.get("suite", options)
            self.assertEqual(answer.status, "5.05", str(answer))

    def test_host_and_port_are_understood(self):
        """5.10.1."""
        answer = self.client().get(self.resource(), [(URI_HOST, b"localhost"), (URI_PORT, uint(5683))])
        self.assertEqual(answer.status, "2.05", str(answer))

    def test_every_encoding_of_option_numbers_and_lengths(self):
        """3.1: elective options around the bounds of 13 and 269."""
        client, where = self.client(), self.resource()
        for number in (12 + 8, 268, 270, 282, 600, 65534):
            for length in (0, 1, 12, 13, 14, 268, 269, 270, 400):
                if number % 2 == 0 and number not in (20, 258):
                    answer = client.get(where, [(number, b"x" * length)])
                    self.assertEqual(answer.status, "2.05", f"{number} of {length}: {answer}")


class Paths(Case):
    def test_empty_segments_and_odd_bytes_are_part_of_the_name(self):
        """6.5: what stands in a segment is not looked into."""
        client = self.client()
        for segments in ([b"odd", b""], [b"odd", b"a/b"], [b"odd", b"a b%"], [b"odd", "ü".encode()]):
            options = [(URI_PATH, segment) for segment in segments]
            put = client.message(PUT, "", options, str(segments))
            client.send(put)
            self.assertIn(client.receive().status, ("2.01", "2.04"))
            self.assertEqual(client.get("", options).payload.decode(), str(segments))

    def test_what_is_not_there_gets_404_with_a_reason(self):
        """5.5.2: diagnostic payloads are text without a content format."""
        answer = self.client().get("suite/not/there")
        self.assertEqual((answer.status, answer.option(CONTENT_FORMAT)), ("4.04", None), str(answer))
        self.assertTrue(answer.payload.decode(), "no diagnostic payload")

    def test_dots_lead_nowhere(self):
        client = self.client()
        for segments in (["..", "etc", "passwd"], [".", "suite"], ["suite", "..", "..", "etc"]):
            answer = client.get("", [(URI_PATH, segment.encode()) for segment in segments])
            self.assertEqual(answer.status, "4.04", str(answer))

    def test_queries_do_not_change_the_resource(self):
        answer = self.client().get(self.resource("x"), [(URI_QUERY, b"a=1"), (URI_QUERY, b"b")])
        self.assertEqual((answer.status, answer.payload), ("2.05", b"x"), str(answer))
