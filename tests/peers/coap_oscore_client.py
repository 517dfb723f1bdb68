"""A CoAP client of aiocoap that speaks OSCORE.

coap_oscore_client.py CREDENTIALS.json get|put|observe|post URL [PAYLOAD|COUNT]
"""

import asyncio
import json
import sys

import aiocoap


async def main():
    credentials, verb, url, *rest = sys.argv[1:]
    context = await aiocoap.Context.create_client_context()
    context.client_credentials.load_from_dict(json.load(open(credentials)))
    if verb == "observe":
        request = context.request(aiocoap.Message(code=aiocoap.GET, uri=url, observe=0))
        first = await request.response
        print(first.code, first.payload.decode(), flush=True)
        left = int(rest[0])
        async for answer in request.observation:
            print(answer.code, answer.payload.decode(), flush=True)
            left -= 1
            if left == 0:
                break
        request.observation.cancel()
        return
    code = {"get": aiocoap.GET, "put": aiocoap.PUT, "post": aiocoap.POST}[verb]
    payload = rest[0].encode() if rest else b""
    if payload.startswith(b"x*"):
        payload = b"x" * int(payload[2:])
    answer = await context.request(aiocoap.Message(code=code, uri=url, payload=payload)).response
    text = answer.payload.decode()
    print(answer.code, len(text), text[:200], flush=True)


asyncio.run(main())
