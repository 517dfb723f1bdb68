"""A CoAP server of aiocoap whose resources want OSCORE. Prints "port N", then one line for each request.

coap_oscore_server.py CREDENTIALS.json
"""

import asyncio
import json
import socket
import sys

import aiocoap
import aiocoap.credentials
import aiocoap.oscore_sitewrapper
import aiocoap.resource as resource


class Told(resource.Resource):
    async def render_get(self, request):
        print("GET", flush=True)
        return aiocoap.Message(payload=b"hello over oscore")

    async def render_put(self, request):
        print("PUT", len(request.payload), flush=True)
        self.value = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)

    async def render_post(self, request):
        print("POST", len(request.payload), flush=True)
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload)


class Big(resource.Resource):
    async def render_get(self, request):
        return aiocoap.Message(payload=b"0123456789" * 1000)


class Tick(resource.ObservableResource):
    def __init__(self):
        super().__init__()
        self.count = 0
        self.task = asyncio.create_task(self.tick())

    async def tick(self):
        while True:
            await asyncio.sleep(0.3)
            self.count += 1
            self.updated_state()

    async def render_get(self, request):
        return aiocoap.Message(payload=b"tick %d" % self.count)


async def main():
    site = resource.Site()
    site.add_resource(["hello"], Told())
    site.add_resource(["big"], Big())
    site.add_resource(["tick"], Tick())
    credentials = aiocoap.credentials.CredentialsMap()
    credentials.load_from_dict(json.load(open(sys.argv[1])))
    wrapped = aiocoap.oscore_sitewrapper.OscoreSiteWrapper(site, credentials)
    for _ in range(100):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        try:
            context = await aiocoap.Context.create_server_context(
                wrapped, bind=("127.0.0.1", port), server_credentials=credentials
            )
            break
        except OSError:
            continue
    print("port", port, flush=True)
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
