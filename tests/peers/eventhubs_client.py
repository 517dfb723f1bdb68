"""azure-eventhub, Microsoft's SDK, as client of `tracemq serve eventhubs`.

eventhubs_client.py CONNECTION_STRING COMMAND [ARGUMENT...] [--hub NAME] [--group NAME] [--ws] [--address URL] [--ca FILE]

Prints a line of JSON for each thing that it has to tell, and ends with status 0; or one with "error", and status 1.
"""

import argparse
import asyncio
import datetime
import json
import os
import sys
import threading
import time

from azure.core.credentials import AccessToken
from azure.eventhub import (
    EventData,
    EventHubConsumerClient,
    EventHubProducerClient,
    TransportType,
)
from azure.eventhub import aio
from azure.eventhub import _pyamqp

# It copies all options of a socket back on it, and the system takes one of them on some connections only.
_pyamqp._transport.KNOWN_TCP_OPTS.discard("TCP_MAXSEG")

PATIENCE = 60


def tell(**what):
    print(json.dumps(what), flush=True)


class Peer:
    def __init__(self, options):
        self.options = options
        common = {"eventhub_name": options.hub, "retry_total": options.retries, "retry_backoff_factor": 0.2}
        if options.ws:
            common["transport_type"] = TransportType.AmqpOverWebsocket
        if options.address:
            common["custom_endpoint_address"] = options.address
        if options.ca:
            common["connection_verify"] = options.ca
        self.common = common

    def producer(self, **more):
        return EventHubProducerClient.from_connection_string(self.options.connection, **self.common, **more)

    def consumer(self, **more):
        return EventHubConsumerClient.from_connection_string(
            self.options.connection, consumer_group=self.options.group, **self.common, **more
        )

    def async_producer(self, **more):
        return aio.EventHubProducerClient.from_connection_string(self.options.connection, **self.common, **more)

    def async_consumer(self, **more):
        return aio.EventHubConsumerClient.from_connection_string(
            self.options.connection, consumer_group=self.options.group, **self.common, **more
        )


def shown(event, partition):
    return {
        "partition": partition,
        "body": event.body_as_str(),
        "sequence": event.sequence_number,
        "offset": event.offset,
        "enqueued": event.enqueued_time.timestamp(),
        "key": event.partition_key.decode() if event.partition_key else None,
        "properties": {
            (k.decode() if isinstance(k, bytes) else k): (v.decode() if isinstance(v, bytes) else v)
            for k, v in (event.properties or {}).items()
        },
    }


def position(text):
    """earliest, latest, offset:X, sequence:N, time:SECONDS"""
    kind, _, value = text.partition(":")
    return {
        "earliest": lambda: "-1",
        "latest": lambda: "@latest",
        "offset": lambda: value,
        "sequence": lambda: int(value),
        "time": lambda: datetime.datetime.fromtimestamp(float(value), datetime.timezone.utc),
    }[kind]()


def properties(peer, _):
    with peer.consumer() as consumer:
        hub = consumer.get_eventhub_properties()
        tell(
            hub=hub["eventhub_name"],
            partitions=hub["partition_ids"],
            created=hub["created_at"].timestamp(),
        )
        for partition in hub["partition_ids"]:
            about = consumer.get_partition_properties(partition)
            tell(
                partition=about["id"],
                begin=about["beginning_sequence_number"],
                last=about["last_enqueued_sequence_number"],
                offset=about["last_enqueued_offset"],
                empty=about["is_empty"],
            )


def partition_of(peer, arguments):
    with peer.consumer() as consumer:
        tell(about=consumer.get_partition_properties(arguments[0])["id"])


def send(peer, arguments):
    """Sends each ARGUMENT; --partition or --key say where."""
    how = {}
    if peer.options.partition is not None:
        how["partition_id"] = peer.options.partition
    if peer.options.key is not None:
        how["partition_key"] = peer.options.key
    with peer.producer() as producer:
        batch = producer.create_batch(**how)
        for text in arguments:
            event = EventData(text)
            event.properties = {"text": "x", "number": 7}
            batch.add(event)
        producer.send_batch(batch)
        tell(sent=len(arguments))


def single(peer, arguments):
    """Sends events without a batch."""
    with peer.producer() as producer:
        for text in arguments:
            producer.send_event(EventData(text), partition_id=peer.options.partition)
        tell(sent=len(arguments))


def fill(peer, arguments):
    """Fills a batch of events of so many bytes up to the limit of the link, and says how large it is."""
    size = int(arguments[0])
    with peer.producer() as producer:
        batch = producer.create_batch(partition_id=peer.options.partition)
        count = 0
        try:
            while True:
                batch.add(EventData("%0*d" % (size, count)))
                count += 1
        except ValueError:
            pass
        producer.send_batch(batch)
        tell(sent=count, bytes=batch.size_in_bytes, limit=batch.max_size_in_bytes)


def large(peer, arguments):
    """Tries to send one event of so many bytes."""
    with peer.producer() as producer:
        producer.send_event(EventData(b"x" * int(arguments[0])), partition_id=peer.options.partition)
        tell(sent=1)


def flood(peer, arguments):
    """Sends batches of so many numbered events to a partition until it is killed or fails; tells each that was accepted."""
    size = int(arguments[0])
    number = 0
    with peer.producer() as producer:
        while True:
            batch = producer.create_batch(partition_id=peer.options.partition)
            for offset in range(size):
                batch.add(EventData(str(number + offset)))
            producer.send_batch(batch)
            number += size
            tell(accepted=number)


def receive(peer, arguments):
    """POSITION COUNT: receives so many events, of one partition or all, and tells them."""
    wanted = int(arguments[1])
    got = []
    enough = threading.Event()

    def on_batch(context, events):
        for event in events:
            got.append(1)
            if len(got) <= wanted:
                line = shown(event, context.partition_id)
                last = context.last_enqueued_event_properties
                if peer.options.track and last:
                    line["newest"] = last["sequence_number"]
                tell(**line)
        if len(got) >= wanted:
            enough.set()

    def on_error(_, error):
        tell(error=type(error).__name__, text=str(error))
        enough.set()

    def on_partition_initialize(context):
        tell(reading=context.partition_id)

    options = {
        "starting_position": position(arguments[0]),
        "starting_position_inclusive": peer.options.inclusive,
        "track_last_enqueued_event_properties": peer.options.track,
        "partition_id": peer.options.partition,
        "owner_level": peer.options.owner_level,
        "on_error": on_error,
        "on_partition_initialize": on_partition_initialize,
        "max_wait_time": 1,
        "prefetch": peer.options.prefetch,
    }
    consumer = peer.consumer()
    thread = threading.Thread(target=consumer.receive_batch, args=(on_batch,), kwargs=options, daemon=True)
    thread.start()
    done = enough.wait(peer.options.patience)
    consumer.close()
    thread.join(10)
    tell(done=done, received=len(got))


def buffered(peer, arguments):
    """The buffering producer: COUNT events, every second with a key."""
    count = int(arguments[0])
    accepted = []
    failed = []

    def on_success(events, partition):
        accepted.extend((event.body_as_str(), partition) for event in events)

    def on_error(events, partition, error):
        failed.append(str(error))

    producer = peer.producer(
        buffered_mode=True, on_success=on_success, on_error=on_error, max_wait_time=1, max_buffer_length=500
    )
    with producer:
        for number in range(count):
            if number % 2:
                producer.send_event(EventData("%d" % number), partition_key="key-%d" % (number % 10))
            else:
                producer.send_event(EventData("%d" % number))
        producer.flush()
    tell(accepted=len(accepted), failed=failed, partitions=sorted({partition for _, partition in accepted}))


def share(peer, arguments):
    """Two processors with one store of checkpoints share the partitions; SECOND one takes over what the first gives up."""
    from azure.eventhub import CheckpointStore

    class Store(CheckpointStore):
        def __init__(self):
            self.lock = threading.Lock()
            self.owners, self.checkpoints = {}, {}

        def list_ownership(self, fully_qualified_namespace, eventhub_name, consumer_group, **kwargs):
            with self.lock:
                return [dict(owner) for owner in self.owners.values()]

        def claim_ownership(self, ownership_list, **kwargs):
            claimed = []
            with self.lock:
                for ownership in ownership_list:
                    known = self.owners.get(ownership["partition_id"])
                    if known and known["etag"] != ownership.get("etag"):
                        continue
                    ownership = dict(ownership, etag=str(time.monotonic_ns()), last_modified_time=time.time())
                    self.owners[ownership["partition_id"]] = ownership
                    claimed.append(dict(ownership))
            return claimed

        def update_checkpoint(self, checkpoint, **kwargs):
            with self.lock:
                self.checkpoints[checkpoint["partition_id"]] = checkpoint

        def list_checkpoints(self, fully_qualified_namespace, eventhub_name, consumer_group, **kwargs):
            with self.lock:
                return list(self.checkpoints.values())

    store, lock, changed = Store(), threading.Lock(), threading.Condition()
    owned, seen = {"one": set(), "two": set()}, []

    def processor(name):
        def on_event_batch(context, events):
            with changed:
                owned[name].add(context.partition_id)
                seen.extend((context.partition_id, event.sequence_number) for event in events)
                changed.notify_all()
            if events:
                context.update_checkpoint(events[-1])

        def on_partition_close(context, reason):
            with changed:
                owned[name].discard(context.partition_id)

        client = peer.consumer(
            checkpoint_store=store, load_balancing_interval=1, partition_ownership_expiration_interval=6
        )
        thread = threading.Thread(
            target=client.receive_batch,
            args=(on_event_batch,),
            kwargs={
                "starting_position": "-1",
                "max_wait_time": 0.5,
                "on_partition_close": on_partition_close,
                "on_error": lambda *_: None,
            },
            daemon=True,
        )
        thread.start()
        return client, thread

    def until(what, condition):
        deadline = time.monotonic() + peer.options.patience
        with changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("%s: %s %s" % (what, owned, len(seen)))
                changed.wait(left)

    with peer.consumer() as about:
        partitions = set(about.get_partition_ids())

    def publish(round_):
        with peer.producer() as producer:
            for partition in sorted(partitions):
                batch = producer.create_batch(partition_id=partition)
                for number in range(10):
                    batch.add(EventData("%s-%d" % (round_, number)))
                producer.send_batch(batch)

    publish("first")
    one = processor("one")
    until("the first alone", lambda: owned["one"] == partitions and len(seen) >= 10 * len(partitions))
    two = processor("two")
    until(
        "both share",
        lambda: owned["one"] and owned["two"] and not owned["one"] & owned["two"] and owned["one"] | owned["two"] == partitions,
    )
    tell(shared={name: sorted(parts) for name, parts in owned.items()})
    one[0].close()
    one[1].join(20)
    publish("second")
    until("the second alone", lambda: owned["two"] == partitions and len(set(seen)) >= 20 * len(partitions))
    two[0].close()
    two[1].join(20)
    tell(events=len(set(seen)), twice=len(seen) - len(set(seen)))


def entra(peer, _):
    """Asks with a token as Microsoft Entra ID gives them."""

    class Credential:
        def get_token(self, *_, **__):
            return AccessToken("header.claims.signature", int(time.time()) + 3600)

    with peer.consumer() as consumer:
        # In the place of the key's: only so does the client use no TLS.
        consumer._credential = Credential()
        tell(hub=consumer.get_eventhub_properties()["eventhub_name"])


COMMANDS = {
    "properties": properties,
    "partition": partition_of,
    "send": send,
    "single": single,
    "fill": fill,
    "large": large,
    "flood": flood,
    "receive": receive,
    "buffered": buffered,
    "share": share,
    "entra": entra,
}


def main(commands):
    parser = argparse.ArgumentParser()
    parser.add_argument("connection")
    parser.add_argument("command", choices=commands)
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--hub")
    parser.add_argument("--group", default="$Default")
    parser.add_argument("--partition")
    parser.add_argument("--key")
    parser.add_argument("--owner-level", type=int)
    parser.add_argument("--inclusive", action="store_true")
    parser.add_argument("--track", action="store_true")
    parser.add_argument("--prefetch", type=int, default=300)
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--patience", type=float, default=PATIENCE)
    parser.add_argument("--ws", action="store_true")
    parser.add_argument("--address")
    parser.add_argument("--ca")
    options = parser.parse_args()
    peer = Peer(options)
    command = commands[options.command]
    try:
        if asyncio.iscoroutinefunction(command):
            asyncio.run(command(peer, options.arguments))
        else:
            command(peer, options.arguments)
    except Exception as error:  # pylint: disable=broad-except
        tell(error=type(error).__name__, text=str(error))
        sys.stdout.flush()
        os._exit(1)


if __name__ == "__main__":
    main(COMMANDS)
