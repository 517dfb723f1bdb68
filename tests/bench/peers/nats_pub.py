"""Publishes lines with nats-py and nothing else: nats_pub.py PORT SUBJECT, lines on standard input."""

import asyncio
import sys

import nats


async def main():
    connection = await nats.connect(f"nats://127.0.0.1:{sys.argv[1]}")
    for line in sys.stdin.buffer:
        await connection.publish(sys.argv[2], line.rstrip(b"\n"))
    await connection.flush(timeout=120)
    await connection.close()


asyncio.run(main())
