"""CoAP messages over a bare UDP socket, for looking at what a server makes of them.

Nothing is done by itself: no acknowledgement, no retransmission, no blocks. A case says what is sent, and what must come
back. Written from RFC 7252, 7641 and 7959.
"""

import dataclasses
import itertools
import os
import socket
import struct
import time

CON, NON, ACK, RST = range(4)
TYPES = ("CON", "NON", "ACK", "RST")
EMPTY, GET, POST, PUT, DELETE, FETCH, PATCH, IPATCH = range(8)

IF_MATCH, URI_HOST, ETAG, IF_NONE_MATCH, OBSERVE, URI_PORT, LOCATION_PATH, OSCORE = 1, 3, 4, 5, 6, 7, 8, 9
URI_PATH, CONTENT_FORMAT, MAX_AGE, URI_QUERY, ACCEPT, LOCATION_QUERY = 11, 12, 14, 15, 17, 20
BLOCK2, BLOCK1, SIZE2, PROXY_URI, PROXY_SCHEME, SIZE1, NO_RESPONSE = 23, 27, 28, 35, 39, 60, 258

TEXT, LINK_FORMAT, OCTETS, JSON, JSON_PATCH, MERGE_PATCH = 0, 40, 42, 50, 51, 52


def code(text):
    """"4.04" as a number."""
    major, minor = text.split(".")
    return int(major) << 5 | int(minor)


def uint(number):
    """RFC 7252 section 3.2: without leading zeros, 0 is empty."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def block(number, more=False, size=64):
    """The value of Block1 and Block2 (RFC 7959 section 2.2)."""
    return uint(number << 4 | more << 3 | (size.bit_length() - 5))


def path(text):
    """The options of "a/b?x=1"."""
    text, _, query = text.partition("?")
    options = [(URI_PATH, segment.encode()) for segment in text.strip("/").split("/") if segment]
    return options + [(URI_QUERY, argument.encode()) for argument in query.split("&") if argument]


def extended(value):
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes([value - 13])
    return 14, struct.pack("!H", value - 269)


def encode_options(options):
    out, before = b"", 0
    for number, value in sorted(options, key=lambda option: option[0]):
        delta, delta_more = extended(number - before)
        length, length_more = extended(len(value))
        out += bytes([delta << 4 | length]) + delta_more + length_more + value
        before = number
    return out


@dataclasses.dataclass
class Message:
    type: int = CON
    code: int = GET
    id: int = 0
    token: bytes = b""
    options: list = dataclasses.field(default_factory=list)
    payload: bytes = b""

    def encode(self):
        head = bytes([0x40 | self.type << 4 | len(self.token), self.code]) + struct.pack("!H", self.id)
        body = b"\xff" + self.payload if self.payload else b""
        return head + self.token + encode_options(self.options) + body

    @staticmethod
    def decode(data):
        assert len(data) >= 4 and data[0] >> 6 == 1, f"not a message: {data.hex()}"
        length = data[0] & 15
        assert length <= 8, f"token length {length}"
        message = Message(data[0] >> 4 & 3, data[1], struct.unpack("!H", data[2:4])[0], data[4:4 + length])
        at, number = 4 + length, 0

        def more(nibble):
            nonlocal at
            assert nibble != 15, f"a reserved nibble: {data.hex()}"
            if nibble == 13:
                at += 1
                return data[at - 1] + 13
            if nibble == 14:
                at += 2
                return struct.unpack("!H", data[at - 2:at])[0] + 269
            return nibble

        while at < len(data):
            if data[at] == 0xFF:
                message.payload = data[at + 1:]
                assert message.payload, f"a marker without a payload: {data.hex()}"
                break
            first = data[at]
            at += 1
            number += more(first >> 4)
            size = more(first & 15)
            assert at + size <= len(data), f"an option is cut off: {data.hex()}"
            message.options.append((number, data[at:at + size]))
            at += size
        return message

    @property
    def status(self):
        return f"{self.code >> 5}.{self.code & 31:02}"

    def all(self, number):
        return [value for known, value in self.options if known == number]

    def option(self, number):
        values = self.all(number)
        return values[0] if values else None

    def number(self, number):
        value = self.option(number)
        return None if value is None else int.from_bytes(value, "big")

    def block(self, number):
        """Number, more, size."""
        value = self.number(number)
        return None if value is None else (value >> 4, bool(value & 8), 16 << (value & 7))

    def __str__(self):
        return f"{TYPES[self.type]} {self.status} id={self.id} token={self.token.hex()} {self.options} {self.payload[:80]!r}"


class Client:
    """A socket of its own, so that what comes to it is for nobody else."""

    ADDRESS = ("127.0.0.1", 5683)
    # For an answer; a loaded machine needs more than a network.
    PATIENCE = 20
    ids = itertools.count(int.from_bytes(os.urandom(2), "big"))
    tokens = itertools.count(int.from_bytes(os.urandom(3), "big"))

    def __init__(self, address=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(address or self.ADDRESS)

    def close(self):
        self.socket.close()

    def message(self, method=GET, where="", options=(), payload=b"", kind=CON, token=None):
        token = struct.pack("!Q", next(self.tokens) & 0xFFFFFFFF) if token is None else token
        payload = payload.encode() if isinstance(payload, str) else payload
        return Message(kind, method, next(self.ids) & 0xFFFF, token, path(where) + list(options), payload)

    def send(self, message):
        self.socket.send(message if isinstance(message, bytes) else message.encode())

    def receive(self, limit=None):
        """The next message, or `None`."""
        self.socket.settimeout(self.PATIENCE if limit is None else limit)
        try:
            return Message.decode(self.socket.recv(65535))
        except (TimeoutError, BlockingIOError):
            return None

    def ask(self, *arguments, **named):
        """Sends a request; returns what comes back first."""
        message = self.message(*arguments, **named)
        self.send(message)
        answer = self.receive()
        assert answer is not None, f"no answer to {message}"
        assert answer.type == RST or answer.token == message.token, f"another token: {answer}, asked {message}"
        if answer.type in (ACK, RST):
            assert answer.id == message.id, f"another message id: {answer}, asked {message}"
        return answer

    def acknowledge(self, message):
        self.send(Message(ACK, EMPTY, message.id))

    def reset(self, message):
        self.send(Message(RST, EMPTY, message.id))

    def put(self, where, payload, options=()):
        return self.ask(PUT, where, options, payload)

    def get(self, where, options=()):
        return self.ask(GET, where, options)

    def observe(self, where, options=()):
        return self.ask(GET, where, [(OBSERVE, b""), *options])

    def notification(self, token, limit=None):
        """The next notification with this token, acknowledged if it wants to be; what comes twice is passed over."""
        end = time.monotonic() + (self.PATIENCE if limit is None else limit)
        while True:
            message = self.receive(max(0.001, end - time.monotonic()))
            if message is None:
                return None
            if message.type == CON:
                self.acknowledge(message)
            if message.token == token:
                return message

    def is_silent(self, limit=0.5):
        """That nothing comes can only be waited for."""
        message = self.receive(limit)
        assert message is None, f"nothing was to come, but did: {message}"

    def is_alive(self, resets=False):
        """The server has dealt with all that was sent before without an answer, and still answers. What is not confirmable
        may be ignored or rejected (4.3)."""
        ping = Message(CON, EMPTY, next(self.ids) & 0xFFFF)
        self.send(ping)
        while (answer := self.receive()) is not None:
            if answer.type == RST and answer.id == ping.id:
                return
            if resets and answer.type == RST:
                continue
            raise AssertionError(f"nothing was to come before the answer to a ping, but did: {answer}")
        raise AssertionError("the server does not answer a ping")
