"""azure-eventhub's asynchronous clients on `tracemq serve eventhubs`: as eventhubs_client.py, with commands of its own."""

import asyncio
import datetime
import time

from azure.eventhub import EventData

from eventhubs_client import PATIENCE, main, shown, tell


async def round_(peer, arguments):
    """The async clients: properties, a batch, and what comes back."""
    async with peer.async_producer() as producer:
        about = await producer.get_eventhub_properties()
        tell(hub=about["eventhub_name"], partitions=about["partition_ids"])
        await send(producer, arguments, partition_id=peer.options.partition)
    for event in await receive(peer, len(arguments), peer.options.partition, "-1"):
        tell(**event)
    tell(done=True)


async def send(producer, texts, **where):
    batch = await producer.create_batch(**where)
    for text in texts:
        batch.add(EventData(text))
    await producer.send_batch(batch)
    return batch


async def receive(peer, count, partition, position, **how):
    """So many events, of one partition or all."""
    got, enough = [], asyncio.Event()

    async def on_batch(context, events):
        for event in events:
            line = shown(event, context.partition_id)
            if how.get("track_last_enqueued_event_properties"):
                line["newest"] = context.last_enqueued_event_properties["sequence_number"]
            got.append(line)
        if len(got) >= count:
            enough.set()

    async def on_error(_, error):
        got.append(error)
        enough.set()

    async with peer.async_consumer() as consumer:
        reading = asyncio.ensure_future(
            consumer.receive_batch(
                on_batch,
                on_error=on_error,
                partition_id=partition,
                starting_position=position,
                max_wait_time=1,
                **how,
            )
        )
        await asyncio.wait_for(enough.wait(), PATIENCE)
        reading.cancel()
    for error in got:
        if isinstance(error, Exception):
            raise error
    return got[:count]


async def tour(peer, _):
    """All that the async clients can be asked for, on an empty hub of two partitions."""
    async with peer.async_producer() as producer:
        await send(producer, ["a", "b", "c"], partition_id="0")
        await send(producer, ["k1", "k2"], partition_key="a key")
        await send(producer, ["any"])
        full = await producer.create_batch(partition_id="1")
        try:
            while True:
                full.add(EventData("x" * 10_000))
        except ValueError:
            pass
        await producer.send_batch(full)
        tell(limit=full.max_size_in_bytes, bytes=full.size_in_bytes, filled=len(full))
        about = [await producer.get_partition_properties(partition) for partition in "01"]
        tell(kept=sum(one["last_enqueued_sequence_number"] + 1 for one in about))
    everything = await receive(peer, 6 + len(full), None, "-1", track_last_enqueued_event_properties=True)
    small = [event for event in everything if len(event["body"]) < 10]
    tell(
        all=sorted(event["body"] for event in small),
        keyed=sorted({(event["partition"], event["key"]) for event in small if event["body"][0] == "k"}),
        newest=max(event["newest"] for event in everything if event["partition"] == "0"),
    )
    second = next(event for event in everything if event["body"] == "b")
    for name, start, inclusive in [
        ("earliest", "-1", False),
        ("offset", second["offset"], False),
        ("offsetInclusive", second["offset"], True),
        ("sequence", second["sequence"], False),
        ("sequenceInclusive", second["sequence"], True),
        ("time", datetime.datetime.fromtimestamp(0, datetime.timezone.utc), False),
    ]:
        got = await receive(peer, 1, "0", start, starting_position_inclusive=inclusive)
        tell(**{name: got[0]["body"]})
    latest = asyncio.ensure_future(receive(peer, 1, "0", "@latest"))
    async with peer.async_producer() as producer:
        # Sent again until the reader, of which nobody says when it is there, has it.
        while not latest.done():
            await send(producer, ["new"], partition_id="0")
            await asyncio.wait([latest], timeout=0.5)
    tell(latest=(await latest)[0]["body"])
    first = asyncio.ensure_future(receive(peer, 10**9, "0", "@latest", owner_level=1))
    tell(owner=(await receive(peer, 1, "0", "-1", owner_level=2))[0]["body"])
    try:
        await asyncio.wait_for(first, PATIENCE)
    except Exception as error:  # pylint: disable=broad-except
        tell(stolen=str(error))
    accepted, failed = [], []

    async def on_success(events, _):
        accepted.extend(events)

    async def on_error(_, __, error):
        failed.append(str(error))

    async with peer.async_producer(
        buffered_mode=True, on_success=on_success, on_error=on_error, max_wait_time=1, max_buffer_length=100
    ) as producer:
        for number in range(100):
            await producer.send_event(EventData(str(number)))
        await producer.flush()
    tell(accepted=len(accepted), failed=failed)


async def share(peer, _):
    """Two async processors with one store of checkpoints share the partitions; then the second has them all."""
    from azure.eventhub.aio import CheckpointStore

    class Store(CheckpointStore):
        def __init__(self):
            self.owners, self.checkpoints = {}, {}

        async def list_ownership(self, fully_qualified_namespace, eventhub_name, consumer_group, **kwargs):
            return [dict(owner) for owner in self.owners.values()]

        async def claim_ownership(self, ownership_list, **kwargs):
            claimed = []
            for ownership in ownership_list:
                known = self.owners.get(ownership["partition_id"])
                if known and known["etag"] != ownership.get("etag"):
                    continue
                ownership = dict(ownership, etag=str(time.monotonic_ns()), last_modified_time=time.time())
                self.owners[ownership["partition_id"]] = ownership
                claimed.append(dict(ownership))
            return claimed

        async def update_checkpoint(self, checkpoint, **kwargs):
            self.checkpoints[checkpoint["partition_id"]] = checkpoint

        async def list_checkpoints(self, fully_qualified_namespace, eventhub_name, consumer_group, **kwargs):
            return list(self.checkpoints.values())

    store, owned, seen = Store(), {"one": set(), "two": set()}, []

    def processor(name):
        async def on_event_batch(context, events):
            owned[name].add(context.partition_id)
            seen.extend((context.partition_id, event.sequence_number) for event in events)
            if events:
                await context.update_checkpoint(events[-1])

        async def on_partition_close(context, _):
            owned[name].discard(context.partition_id)

        client = peer.async_consumer(
            checkpoint_store=store, load_balancing_interval=1, partition_ownership_expiration_interval=6
        )
        return client, asyncio.ensure_future(
            client.receive_batch(
                on_event_batch, starting_position="-1", max_wait_time=0.5, on_partition_close=on_partition_close
            )
        )

    async def until(what, condition):
        deadline = time.monotonic() + peer.options.patience
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("%s: %s %s" % (what, owned, len(seen)))
            await asyncio.sleep(0.1)

    async def publish():
        async with peer.async_producer() as producer:
            for partition in sorted(partitions):
                await send(producer, ["%d" % number for number in range(10)], partition_id=partition)

    async with peer.async_consumer() as about:
        partitions = set(await about.get_partition_ids())
    await publish()
    one = processor("one")
    await until("the first alone", lambda: owned["one"] == partitions and len(seen) >= 10 * len(partitions))
    two = processor("two")
    await until(
        "both share",
        lambda: owned["one"] and owned["two"] and not owned["one"] & owned["two"] and owned["one"] | owned["two"] == partitions,
    )
    tell(shared={name: sorted(parts) for name, parts in owned.items()})
    await one[0].close()
    await publish()
    await until("the second alone", lambda: owned["two"] == partitions and len(set(seen)) >= 20 * len(partitions))
    await two[0].close()
    for _, task in (one, two):
        task.cancel()
    tell(events=len(set(seen)))


main({"round": round_, "tour": tour, "share": share})
