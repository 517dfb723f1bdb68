"""What nats-py does with core NATS, against any server: python3 core.py CASE URL [NAME=VALUE ...].

The options are those of nats.connect(); tls_ca=FILE trusts that authority. It ends with status 0, and says "passed".
"""

import asyncio
import ssl
import sys

import nats
from nats.errors import NoRespondersError


async def flushed(nc):
    """All that was asked of it has reached the server. The PING of a flush overtakes what nats-py has not written yet, which
    leaves right behind it: only the second one comes after that."""
    await nc.flush()
    await nc.flush()


async def publish_subscribe(connect):
    nc = await connect()
    other = await connect()
    sub = await nc.subscribe("greet.*")
    everything = await nc.subscribe(">")
    await flushed(nc)
    for number in range(100):
        await other.publish(f"greet.{number}", str(number).encode() * 100)
    await flushed(other)
    for number in range(100):
        message = await sub.next_msg(timeout=20)
        assert message.subject == f"greet.{number}" and message.data == str(number).encode() * 100
        message = await everything.next_msg(timeout=20)
        assert message.subject == f"greet.{number}"
    await sub.unsubscribe()
    await nc.close()
    await other.close()


async def auto_unsubscribe(connect):
    nc = await connect()
    sub = await nc.subscribe("limited")
    await sub.unsubscribe(limit=3)
    for number in range(5):
        await nc.publish("limited", str(number).encode())
    await flushed(nc)
    got = [(await sub.next_msg(timeout=20)).data for _ in range(3)]
    assert got == [b"0", b"1", b"2"], got
    await nc.close()


async def request(connect):
    nc = await connect()
    server = await connect()

    async def answer(message):
        await message.respond(b"re: " + message.data)

    await server.subscribe("svc", cb=answer)
    await flushed(server)
    for number in range(100):
        reply = await nc.request("svc", str(number).encode(), timeout=20)
        assert reply.data == b"re: " + str(number).encode()
    old = await nc.request("svc", b"old", timeout=20, old_style=True)
    assert old.data == b"re: old"
    replies = await asyncio.gather(*[nc.request("svc", str(number).encode(), timeout=20) for number in range(100)])
    assert [reply.data for reply in replies] == [b"re: " + str(number).encode() for number in range(100)]
    await nc.close()
    await server.close()


async def no_responders(connect):
    nc = await connect()
    try:
        await nc.request("nobody.is.there", b"", timeout=20)
    except NoRespondersError:
        pass
    else:
        raise AssertionError("a request that nobody hears came back")
    await nc.close()


async def headers(connect):
    nc = await connect()
    sub = await nc.subscribe("with.headers")
    await nc.publish("with.headers", b"body", headers={"Name": "value", "Other": "a: b"})
    await nc.publish("with.headers", b"", headers={"Only": "headers"})
    message = await sub.next_msg(timeout=20)
    assert message.headers == {"Name": "value", "Other": "a: b"} and message.data == b"body", message
    message = await sub.next_msg(timeout=20)
    assert message.headers == {"Only": "headers"} and message.data == b"", message
    await nc.close()


async def queue(connect):
    workers = [await connect() for _ in range(3)]
    counts = [0, 0, 0]

    def counter(index):
        async def count(_message):
            counts[index] += 1

        return count

    for index, worker in enumerate(workers):
        await worker.subscribe("jobs", queue="workers", cb=counter(index))
        await flushed(worker)
    nc = await connect()
    for _ in range(300):
        await nc.publish("jobs", b"x")
    await flushed(nc)
    for worker in workers:
        await worker.drain()
    assert sum(counts) == 300 and min(counts) > 20, counts
    await nc.close()


async def drain(connect):
    nc = await connect()
    publisher = await connect()
    got = []

    async def slowly(message):
        await asyncio.sleep(0.001)
        got.append(message.data)

    await nc.subscribe("drained", cb=slowly)
    await flushed(nc)
    for number in range(200):
        await publisher.publish("drained", str(number).encode())
    await flushed(publisher)
    await flushed(nc)
    await nc.drain()
    assert got == [str(number).encode() for number in range(200)], len(got)
    await publisher.drain()


async def payloads(connect):
    nc = await connect()
    assert nc.max_payload >= 1 << 20
    sub = await nc.subscribe("payload")
    for payload in [b"", b"\r\n", bytes(range(256)), b"x" * (1 << 20)]:
        await nc.publish("payload", payload)
        assert (await sub.next_msg(timeout=20)).data == payload
    try:
        await nc.publish("payload", b"x" * (nc.max_payload + 1))
    except nats.errors.MaxPayloadError:
        pass
    else:
        raise AssertionError("it knows no maximum")
    await nc.close()


async def verbose(connect):
    nc = await connect(verbose=True, pedantic=True)
    sub = await nc.subscribe("v")
    await nc.publish("v", b"1")
    assert (await sub.next_msg(timeout=20)).data == b"1"
    assert await nc.rtt() > 0 if hasattr(nc, "rtt") else True
    await nc.close()


async def refused(connect):
    try:
        await connect(allow_reconnect=False, connect_timeout=20)
    except (nats.errors.Error, ConnectionError, ssl.SSLError) as error:
        print("refused:", error)
    else:
        raise AssertionError("it was let in")


async def jetstream(connect):
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="orders", subjects=["orders.*"])
    for number in range(20):
        ack = await js.publish(f"orders.{number % 2}", str(number).encode())
        assert ack.stream == "orders" and ack.seq == number + 1, ack
    sub = await js.pull_subscribe("orders.1", durable="odd")
    got = []
    while len(got) < 10:
        for message in await sub.fetch(5, timeout=20):
            got.append(int(message.data))
            await message.ack()
    assert got == list(range(1, 20, 2)), got
    kv = await js.create_key_value(bucket="settings")
    await kv.put("colour", b"blue")
    assert (await kv.get("colour")).value == b"blue"
    await nc.close()


CORE = [publish_subscribe, auto_unsubscribe, request, no_responders, headers, queue, drain, payloads, verbose]


async def main(case, url, pairs):
    options = dict(pair.split("=", 1) for pair in pairs)
    if "tls_ca" in options:
        options["tls"] = ssl.create_default_context(cafile=options.pop("tls_ca"))
        if "tls_cert" in options:
            options["tls"].load_cert_chain(options.pop("tls_cert"), options.pop("tls_key"))

    async def silent(error):
        print("error:", repr(error), file=sys.stderr)

    async def connect(**more):
        return await nats.connect(url, error_cb=silent, **{**options, **more})

    cases = CORE if case == "core" else [globals()[case]]
    for function in cases:
        await asyncio.wait_for(function(connect), 120)
        print("passed", function.__name__)


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
