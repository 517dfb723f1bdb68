"""A blocking MQTT 3.1.1 and 5.0 client of few lines, which shows every packet it gets.

It does nothing by itself: no acknowledgement, no ping, no reconnect. A case says what is sent, and what must
come back. Written from the OASIS standards; section numbers are those of MQTT 5.0.
"""

import socket
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = range(1, 9)
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(9, 16)
NAMES = ("", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
         "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH")

# Section 2.2.2.2: identifier, name, type.
PROPERTIES = {
    0x01: ("payload_format", "byte"), 0x02: ("message_expiry", "four"), 0x03: ("content_type", "text"),
    0x08: ("response_topic", "text"), 0x09: ("correlation_data", "binary"), 0x0B: ("subscription_id", "variable"),
    0x11: ("session_expiry", "four"), 0x12: ("assigned_client_id", "text"), 0x13: ("server_keep_alive", "two"),
    0x15: ("auth_method", "text"), 0x16: ("auth_data", "binary"), 0x17: ("request_problem", "byte"),
    0x18: ("will_delay", "four"), 0x19: ("request_response", "byte"), 0x1A: ("response_information", "text"),
    0x1C: ("server_reference", "text"), 0x1F: ("reason", "text"), 0x21: ("receive_maximum", "two"),
    0x22: ("topic_alias_maximum", "two"), 0x23: ("topic_alias", "two"), 0x24: ("maximum_qos", "byte"),
    0x25: ("retain_available", "byte"), 0x26: ("user", "pair"), 0x27: ("maximum_packet_size", "four"),
    0x28: ("wildcards_available", "byte"), 0x29: ("subscription_ids_available", "byte"),
    0x2A: ("shared_available", "byte"),
}
IDENTIFIERS = {name: (number, kind) for number, (name, kind) in PROPERTIES.items()}
REPEATABLE = ("user", "subscription_id")


class Closed(Exception):
    """The broker closed the connection."""


def variable(number):
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | (128 if number else 0))
        if not number:
            return bytes(out)


def binary(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack("!H", len(data)) + data


def properties(values):
    body = b""
    for name, value in values.items():
        number, kind = IDENTIFIERS[name]
        for one in value if name in REPEATABLE and isinstance(value, list) else [value]:
            body += bytes([number]) + {
                "byte": lambda v: bytes([v]), "two": lambda v: struct.pack("!H", v),
                "four": lambda v: struct.pack("!I", v), "variable": variable, "text": binary, "binary": binary,
                "pair": lambda v: binary(v[0]) + binary(v[1]),
            }[kind](one)
    return variable(len(body)) + body


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise ValueError("packet too short")
        self.at += count
        return self.data[self.at - count:self.at]

    def two(self):
        return struct.unpack("!H", self.take(2))[0]

    def variable(self):
        number, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    def binary(self):
        return self.take(self.two())

    def rest(self):
        return self.take(len(self.data) - self.at)

    def properties(self):
        found, end = {}, self.variable()
        end += self.at
        while self.at < end:
            name, kind = PROPERTIES[self.variable()]
            value = {
                "byte": lambda: self.take(1)[0], "two": self.two,
                "four": lambda: struct.unpack("!I", self.take(4))[0], "variable": self.variable,
                "text": lambda: self.binary().decode(), "binary": self.binary,
                "pair": lambda: (self.binary().decode(), self.binary().decode()),
            }[kind]()
            if name in REPEATABLE:
                found.setdefault(name, []).append(value)
            else:
                assert name not in found, f"property {name} twice"
                found[name] = value
        return found


class Packet:
    """A packet as it came; only the fields of its type are there."""

    def __init__(self, first, body, version):
        self.kind, self.flags = first >> 4, first & 15
        reader = Reader(body)
        self.properties = {}
        if self.kind == CONNACK:
            self.session_present, self.code = bool(reader.take(1)[0] & 1), reader.take(1)[0]
            self.properties = reader.properties() if version == 5 and len(body) > 2 else {}
        elif self.kind == PUBLISH:
            self.dup, self.qos, self.retain = bool(first & 8), first >> 1 & 3, bool(first & 1)
            self.topic = reader.binary().decode()
            self.id = reader.two() if self.qos else None
            self.properties = reader.properties() if version == 5 else {}
            self.payload = reader.rest()
        elif self.kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
            self.id = reader.two()
            self.code = reader.take(1)[0] if len(body) > 2 else 0
        elif self.kind in (SUBACK, UNSUBACK):
            self.id = reader.two()
            self.properties = reader.properties() if version == 5 else {}
            self.codes = list(reader.rest())
        elif self.kind == DISCONNECT:
            self.code = reader.take(1)[0] if body else 0
            self.properties = reader.properties() if len(body) > 1 else {}

    def __repr__(self):
        return f"{NAMES[self.kind]}{ {k: v for k, v in vars(self).items() if k not in ('kind', 'flags')} }"


class Client:
    """One connection. `version` is 4 (3.1.1) or 5."""

    ADDRESS = ("127.0.0.1", 1883)
    LIMIT = 10

    def __init__(self, version, client_id="", clean=True, keep_alive=60, will=None, user=None, password=None,
                 expect=0, **values):
        self.version, self.next_id, self.buffer = version, 0, b""
        self.socket = socket.create_connection(self.ADDRESS, self.LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = 2 if clean else 0
        body = binary(client_id)
        if will:
            flags |= 4 | will.get("qos", 0) << 3 | (32 if will.get("retain") else 0)
            if version == 5:
                body += properties(will.get("properties", {}))
            body += binary(will["topic"]) + binary(will["payload"])
        if user is not None:
            flags |= 128
            body += binary(user)
        if password is not None:
            flags |= 64
            body += binary(password)
        head = binary("MQTT") + bytes([version, flags]) + struct.pack("!H", keep_alive)
        self.send(CONNECT, head + (properties(values) if version == 5 else b"") + body)
        self.connack = self.expect(CONNACK)
        assert self.connack.code == expect, f"CONNACK code {self.connack.code:#x}, not {expect:#x}"

    # Sending

    def raw(self, data):
        self.socket.sendall(data)

    def send(self, kind, body=b"", flags=None):
        flags = 2 if flags is None and kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else flags or 0
        self.raw(bytes([kind << 4 | flags]) + variable(len(body)) + body)

    def id(self):
        self.next_id = self.next_id % 65535 + 1
        return self.next_id

    def publish(self, topic, payload=b"", qos=0, retain=False, dup=False, packet_id=None, **values):
        """Sends PUBLISH only; returns the packet identifier."""
        payload = payload.encode() if isinstance(payload, str) else payload
        packet_id = packet_id or (self.id() if qos else None)
        body = binary(topic) + (struct.pack("!H", packet_id) if qos else b"")
        body += properties(values) if self.version == 5 else b""
        self.send(PUBLISH, body + payload, (8 if dup else 0) | qos << 1 | (1 if retain else 0))
        return packet_id

    def deliver(self, topic, payload=b"", qos=1, **arguments):
        """Publishes and goes through the whole exchange; returns the packet with the result code."""
        packet_id = self.publish(topic, payload, qos, **arguments)
        if qos == 0:
            return None
        if qos == 1:
            return self.answer(PUBACK, packet_id)
        received = self.answer(PUBREC, packet_id)
        if received.code < 0x80:
            self.ack(PUBREL, packet_id)
            self.answer(PUBCOMP, packet_id)
        return received

    def ack(self, kind, packet_id):
        self.send(kind, struct.pack("!H", packet_id))

    def subscribe(self, filters, qos=0, no_local=False, as_published=False, handling=0, **values):
        """Subscribes and returns the codes of SUBACK; packets that come before it are kept."""
        filters = [filters] if isinstance(filters, str) else filters
        packet_id = self.id()
        options = qos | (4 if no_local else 0) | (8 if as_published else 0) | handling << 4
        body = struct.pack("!H", packet_id) + (properties(values) if self.version == 5 else b"")
        self.send(SUBSCRIBE, body + b"".join(binary(one) + bytes([options]) for one in filters))
        return self.answer(SUBACK, packet_id).codes

    def unsubscribe(self, *filters):
        packet_id = self.id()
        body = struct.pack("!H", packet_id) + (properties({}) if self.version == 5 else b"")
        self.send(UNSUBSCRIBE, body + b"".join(map(binary, filters)))
        return self.answer(UNSUBACK, packet_id).codes

    def disconnect(self, code=0, **values):
        body = bytes([code]) + properties(values) if self.version == 5 and (code or values) else b""
        self.send(DISCONNECT, body)
        self.close()

    def close(self):
        """Without DISCONNECT: the client is lost."""
        self.socket.close()

    # Receiving

    def packet(self, limit=None):
        """The next packet; None if none comes within `limit` seconds. Raises Closed."""
        deadline = time.monotonic() + (self.LIMIT if limit is None else limit)
        kept, self.kept = getattr(self, "kept", []), []
        if kept:
            self.kept = kept[1:]
            return kept[0]
        while True:
            packet = self.parse()
            if packet:
                return packet
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            self.socket.settimeout(remaining)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                return None
            except OSError as error:
                raise Closed(str(error)) from None
            if not data:
                raise Closed("end of the connection")
            self.buffer += data

    def parse(self):
        for size in range(2, 6):
            if len(self.buffer) < size:
                return None
            if self.buffer[size - 1] < 128:
                reader = Reader(self.buffer[1:size])
                end = size + reader.variable()
                if len(self.buffer) < end:
                    return None
                packet = Packet(self.buffer[0], self.buffer[size:end], self.version)
                self.buffer = self.buffer[end:]
                return packet
        raise AssertionError("a remaining length of more than four bytes")

    def expect(self, kind, limit=None):
        """The next packet, which must be of this type."""
        packet = self.packet(limit)
        assert packet is not None, f"no {NAMES[kind]} came"
        assert packet.kind == kind, f"{packet} came, not {NAMES[kind]}"
        return packet

    def answer(self, kind, packet_id):
        """The packet of this type with this identifier; others are kept for later."""
        others = []
        while True:
            packet = self.packet()
            assert packet is not None, f"no {NAMES[kind]} came, but {others}"
            if packet.kind == kind and packet.id == packet_id:
                self.kept = others + self.kept
                return packet
            others.append(packet)

    def message(self, limit=None):
        """The next PUBLISH, acknowledged as its QoS wants."""
        packet = self.expect(PUBLISH, limit)
        if packet.qos == 1:
            self.ack(PUBACK, packet.id)
        elif packet.qos == 2:
            self.ack(PUBREC, packet.id)
            self.answer(PUBREL, packet.id)
            self.ack(PUBCOMP, packet.id)
        return packet

    def messages(self, count):
        return [self.message() for _ in range(count)]

    def silent(self, limit=0.3):
        """Nothing comes for a while."""
        packet = self.packet(limit)
        assert packet is None, f"{packet} came, where nothing should"

    def closed(self, code=None):
        """The broker closes. If it says why (it may, with 5.0), then with this reason code."""
        try:
            while True:
                packet = self.packet()
                assert packet is not None, "the connection stays open"
                if packet.kind == DISCONNECT:
                    assert self.version == 5, "DISCONNECT from the server below 5.0"
                    assert code is None or packet.code == code, f"{packet}, not {code:#x}"
        except Closed:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
