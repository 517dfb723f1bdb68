"""A WebSocket server on the package `websockets`. What it does with a client stands in the path.

Prints its port, then what it sees. `--tls CERT KEY`, `--client-ca FILE`, `--subprotocol NAME` and `--no-compression` as they say;
with `--relay PORT` binary frames are bytes of a connection to that port of this machine, whatever the path.
"""

import argparse
import asyncio
import http
import json
import ssl
from urllib.parse import parse_qs, urlparse

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


def say(*words):
    print(*words, flush=True)


def check(connection, request):
    path = urlparse(request.path).path
    if path == "/refuse401":
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no such user\n")
    if path == "/refuse403":
        return connection.respond(http.HTTPStatus.FORBIDDEN, "not for you\n")
    if path == "/refuse503":
        return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "come back later\n")
    if path == "/private":
        if request.headers.get("Authorization") not in ("Basic YW5uOnMzY3JldA==", "Bearer t0ken"):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "who are you?\n")
    return None


async def relay(connection, port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def answer():
        while data := await reader.read(65536):
            await connection.send(data)
        await connection.close()

    answering = asyncio.create_task(answer())
    try:
        async for message in connection:
            writer.write(message)
            await writer.drain()
    finally:
        writer.close()
        answering.cancel()


async def handle(connection):
    url = urlparse(connection.request.path)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    say("client", url.path, connection.subprotocol or "-")
    try:
        if url.path == "/push":
            count, size = int(query.get("count", 3)), int(query.get("size", 0))
            for number in range(count):
                await connection.send(f"message {number}" + "x" * size)
            await connection.wait_closed()
        elif url.path == "/mixed":
            await connection.send("text é")
            await connection.send(b"\x00\xff\x01")
            await connection.send(["in ", "three ", "parts"])
            await connection.ping(b"are you there")
            await connection.wait_closed()
        elif url.path == "/headers":
            await connection.send(json.dumps(dict(connection.request.headers.raw_items())))
            await connection.wait_closed()
        elif url.path == "/close":
            await connection.send("before")
            await connection.close(int(query["code"]), query.get("reason", ""))
        elif url.path == "/refuse":
            await connection.recv()
            await connection.close(int(query["code"]), query.get("reason", ""))
        elif url.path == "/abort":
            await connection.send("before")
            connection.transport.abort()
        elif url.path == "/silent":
            await connection.wait_closed()
        else:
            async for message in connection:
                kind = "text" if isinstance(message, str) else "binary"
                say("got", kind, len(message))
                await connection.send(message)
    except ConnectionClosed:
        pass
    await connection.wait_closed()
    say("closed", connection.close_code, connection.close_reason)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", nargs=2)
    parser.add_argument("--client-ca")
    parser.add_argument("--subprotocol", action="append")
    parser.add_argument("--no-compression", action="store_true")
    parser.add_argument("--max-size", type=int, default=2**20)
    parser.add_argument("--relay", type=int)
    arguments = parser.parse_args()
    context = None
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*arguments.tls)
        if arguments.client_ca:
            context.load_verify_locations(arguments.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    async with serve(
        (lambda connection: relay(connection, arguments.relay)) if arguments.relay else handle,
        "127.0.0.1",
        arguments.port,
        process_request=check,
        subprotocols=arguments.subprotocol,
        compression=None if arguments.no_compression else "deflate",
        max_size=arguments.max_size,
        ssl=context,
        ping_interval=None,
    ) as server:
        say("port", server.sockets[0].getsockname()[1])
        await server.serve_forever()


asyncio.run(main())
