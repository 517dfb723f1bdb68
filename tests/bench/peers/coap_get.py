"""aiocoap's client: coap_get.py URL COUNT WINDOW sends so many GETs and keeps WINDOW of them under way."""

import asyncio
import json
import sys
import time

import aiocoap


async def main(url, count, window):
    context = await aiocoap.Context.create_client_context()
    left, latencies = iter(range(count)), []

    async def ask():
        for _ in left:
            began = time.monotonic()
            await context.request(aiocoap.Message(code=aiocoap.GET, uri=url)).response
            latencies.append(time.monotonic() - began)

    began = time.monotonic()
    await asyncio.gather(*(ask() for _ in range(window)))
    seconds = time.monotonic() - began
    latencies.sort()
    p50, p99 = (latencies[int((count - 1) * part)] * 1e6 for part in (0.5, 0.99))
    print(json.dumps({"messages_per_second": count / seconds, "latency_us": {"p50": p50, "p99": p99}}))
    await context.shutdown()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
