"""aiocoap against any server.

observe URL        prints a JSON text for each state, or the code of an error, until standard input ends
everything BASE    does what a client can do, and says "all well"
"""

import asyncio
import json
import sys

import aiocoap
from aiocoap import Code, Message


async def observe(url):
    context = await aiocoap.Context.create_client_context()
    request = context.request(Message(code=Code.GET, uri=url, observe=0))
    response = await request.response
    print(json.dumps(response.payload.decode()), flush=True)
    assert response.opt.observe is not None, "it is not observed"

    async def watch():
        try:
            async for told in request.observation:
                print(json.dumps(told.payload.decode()) if told.code.is_successful() else told.code.dotted, flush=True)
        except aiocoap.error.NotObservable:
            print("not observable", flush=True)
        except aiocoap.error.ObservationCancelled:
            print("cancelled", flush=True)

    watching = asyncio.create_task(watch())
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    request.observation.cancel()
    watching.cancel()
    await context.shutdown()


async def everything(base):
    context = await aiocoap.Context.create_client_context()

    async def ask(code, path, payload=b"", **options):
        message = Message(code=code, uri=f"{base}/aiocoap/{path}", payload=payload)
        for name, value in options.items():
            setattr(message.opt, name, value)
        return await context.request(message).response

    body = ("0123456789" * 10_000).encode()
    answer = await ask(Code.PUT, "large", body)
    assert answer.code == Code.CREATED, answer
    answer = await ask(Code.GET, "large")
    assert (answer.code, answer.payload) == (Code.CONTENT, body), answer
    etag = answer.opt.etag
    answer = await ask(Code.GET, "large", etags=[etag])
    assert answer.code == Code.VALID, answer
    answer = await ask(Code.PUT, "small", b"{}", content_format=50)
    assert answer.code == Code.CREATED, answer
    answer = await ask(Code.PUT, "small", b"[]", if_none_match=True)
    assert answer.code == Code.PRECONDITION_FAILED, answer
    answer = await ask(Code.PUT, "small", b"[]", if_match=[b"other"])
    assert answer.code == Code.PRECONDITION_FAILED, answer
    answer = await ask(Code.GET, "small", accept=0)
    assert answer.code == Code.NOT_ACCEPTABLE, answer
    answer = await ask(Code.POST, "small", b"[1]", content_format=50)
    assert answer.code == Code.CHANGED, answer
    answer = await ask(Code.PATCH, "small", b'[{"op":"add","path":"/-","value":2}]', content_format=51)
    assert answer.code == Code.CHANGED, answer
    answer = await ask(Code.GET, "small")
    assert answer.payload == b"[1,2]", answer

    request = context.request(Message(code=Code.GET, uri=f"{base}/aiocoap/small", observe=0))
    assert (await request.response).opt.observe is not None
    told = asyncio.Queue()

    async def watch():
        try:
            async for state in request.observation:
                told.put_nowait(state)
        except aiocoap.error.Error as error:
            told.put_nowait(error)

    watching = asyncio.create_task(watch())
    for number in range(12):
        await ask(Code.PUT, "small", str(number).encode())
        while (await asyncio.wait_for(told.get(), 20)).payload != str(number).encode():
            pass
    answer = await ask(Code.DELETE, "small")
    assert answer.code == Code.DELETED, answer
    end = await asyncio.wait_for(told.get(), 20)
    assert getattr(end, "code", Code.NOT_FOUND) == Code.NOT_FOUND, end
    watching.cancel()
    answer = await ask(Code.GET, "small")
    assert answer.code == Code.NOT_FOUND and answer.payload, answer
    await context.shutdown()
    print("all well")


asyncio.run({"observe": observe, "everything": everything}[sys.argv[1]](sys.argv[2]))
