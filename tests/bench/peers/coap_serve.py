"""aiocoap's server: coap_serve.py PORT has one resource, /bench, that can be read."""

import asyncio
import sys

import aiocoap
import aiocoap.resource


class Resource(aiocoap.resource.Resource):
    async def render_get(self, request):
        return aiocoap.Message(payload=b"21.5 degrees celsius")


async def main(port):
    site = aiocoap.resource.Site()
    site.add_resource(["bench"], Resource())
    await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port))
    await asyncio.get_running_loop().create_future()


asyncio.run(main(int(sys.argv[1])))
