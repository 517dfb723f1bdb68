"""A CoAP server on the package `aiocoap`. Prints its port, then what it is asked.

Its resources are listed at the end, and do what their classes say.
"""

import argparse
import asyncio
import socket

import aiocoap
from aiocoap import Code, Message, resource


def say(*words):
    print(*words, flush=True)


def body(length):
    return bytes(97 + at % 26 for at in range(length))


class Hello(resource.Resource):
    """A text, and its ETag: 2.03 for whoever has it."""

    async def render_get(self, request):
        response = Message(payload=b"hello", content_format=0)
        response.opt.etag = b"\x01\x02"
        if b"\x01\x02" in request.opt.etags:
            response = Message(code=Code.VALID)
            response.opt.etag = b"\x01\x02"
        return response


class Store(resource.Resource):
    """Keeps what is put there; knows all methods."""

    def __init__(self):
        super().__init__()
        self.content = None

    def told(self, request):
        found = request.opt.content_format
        say(request.code, len(request.payload), None if found is None else int(found), *request.opt.uri_query)

    async def render_get(self, request):
        if self.content is None:
            return Message(code=Code.NOT_FOUND, payload=b"nothing was put here")
        return Message(payload=self.content)

    async def render_put(self, request):
        self.told(request)
        if request.opt.if_none_match and self.content is not None:
            return Message(code=Code.PRECONDITION_FAILED)
        code = Code.CREATED if self.content is None else Code.CHANGED
        self.content = request.payload
        return Message(code=code)

    async def render_post(self, request):
        self.told(request)
        response = Message(code=Code.CREATED, payload=request.payload)
        response.opt.location_path = ("store", "1")
        return response

    async def render_delete(self, request):
        self.told(request)
        self.content = None
        return Message(code=Code.DELETED)

    async def render_fetch(self, request):
        self.told(request)
        return Message(code=Code.CONTENT, payload=b"fetched " + request.payload)

    async def render_patch(self, request):
        self.told(request)
        self.content = (self.content or b"") + request.payload
        return Message(code=Code.CHANGED)

    async def render_ipatch(self, request):
        self.told(request)
        self.content = request.payload
        return Message(code=Code.CHANGED)


class Echo(resource.Resource):
    async def render_post(self, request):
        return Message(code=Code.CONTENT, payload=request.payload)


class Slow(resource.Resource):
    """Answers by itself, after the acknowledgement."""

    async def render_get(self, request):
        await asyncio.sleep(0.7)
        return Message(payload=b"at last")


class Big(resource.Resource):
    async def render_get(self, request):
        return Message(payload=body(100_000))


class Ticks(resource.ObservableResource):
    """Counts, ten times a second, while anybody looks."""

    def __init__(self, length=0):
        super().__init__()
        self.count, self.length, self.task = 0, length, None

    def update_observation_count(self, count):
        say("observers", count)
        if count and not self.task:
            self.task = asyncio.get_running_loop().create_task(self.tick())
        if not count and self.task:
            self.task.cancel()
            self.task = None

    async def tick(self):
        while True:
            await asyncio.sleep(0.1)
            self.count += 1
            self.updated_state()

    async def render_get(self, request):
        return Message(payload=b"%d " % self.count + body(self.length), content_format=0)


class Codes(resource.Resource):
    """Answers `?4.03` with that code."""

    async def render_get(self, request):
        number = request.opt.uri_query[0].split(".")
        return Message(code=Code(int(number[0]) << 5 | int(number[1])), payload=b"because")


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--tcp", action="store_true", help="coap+tcp alone, at this port")
    arguments = parser.parse_args()
    site = resource.Site()
    site.add_resource([".well-known", "core"], resource.WKCResource(site.get_resources_as_linkheader))
    for path, found in {
        "hello": Hello(),
        "store": Store(),
        "echo": Echo(),
        "slow": Slow(),
        "big": Big(),
        "ticks": Ticks(),
        "big-ticks": Ticks(3000),
        "code": Codes(),
    }.items():
        site.add_resource([path], found)
    transports = ["tcpserver"] if arguments.tcp else None
    while True:
        port = arguments.port or free_port()
        try:
            context = await aiocoap.Context.create_server_context(
                site, bind=(arguments.bind, port), transports=transports
            )
            break
        except OSError:
            # Free for datagrams, it may be taken for TCP, which aiocoap serves as well.
            if arguments.port:
                raise
    say("port", port)
    await asyncio.get_running_loop().create_future()
    await context.shutdown()


asyncio.run(main())
