"""A WebSocket client on the package `websockets`: sends each line of stdin and prints what comes, one JSON text a line.

Arguments: URL, then header=value pairs; `--subprotocol NAME`, `--no-compression`, `--ca FILE`.
"""

import argparse
import asyncio
import json
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus


def say(**what):
    print(json.dumps(what), flush=True)


async def send(connection):
    while line := await asyncio.to_thread(sys.stdin.readline):
        line = line.rstrip("\n")
        if line == "flood":
            # Never reads: the messages of others pile up.
            connection.transport.pause_reading()
        elif line.startswith("big "):
            await connection.send("x" * int(line[4:]))
        elif line.startswith("close "):
            await connection.close(int(line[6:]), "as told")
        else:
            await connection.send(line)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("headers", nargs="*")
    parser.add_argument("--subprotocol")
    parser.add_argument("--no-compression", action="store_true")
    parser.add_argument("--ca")
    arguments = parser.parse_intermixed_args()
    options = {"max_size": None, "open_timeout": 20, "proxy": None}
    if arguments.ca:
        options["ssl"] = ssl.create_default_context(cafile=arguments.ca)
    if arguments.subprotocol:
        options["subprotocols"] = [arguments.subprotocol]
    if arguments.no_compression:
        options["compression"] = None
    try:
        async with connect(
            arguments.url,
            additional_headers=[header.split("=", 1) for header in arguments.headers],
            **options,
        ) as connection:
            say(open=True, protocol=connection.subprotocol, extensions=[repr(one) for one in connection.protocol.extensions])
            sender = asyncio.create_task(send(connection))
            try:
                async for message in connection:
                    if isinstance(message, bytes):
                        say(message=message.hex(), binary=True)
                    else:
                        say(message=message, binary=False)
            except ConnectionClosed:
                pass
            say(closed=connection.close_code, reason=connection.close_reason)
            sender.cancel()
    except InvalidStatus as refusal:
        say(refused=refusal.response.status_code, body=refusal.response.body.decode())
        sys.stdout.flush()
        import os

        os._exit(4)
    except InvalidHandshake as error:
        say(error=str(error))
    import os

    # The thread that waits for stdin would keep the process.
    sys.stdout.flush()
    os._exit(0)


asyncio.run(main())
