"""azure-eventhub and nothing else: `receive CONNECTION COUNT` reads partition 0 from its beginning, `send CONNECTION COUNT SIZE`
fills batches with events and sends them there."""

import os
import sys
import threading

from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient
from azure.eventhub import _pyamqp

# It copies all options of a socket back on it, and the system takes one of them on some connections only.
_pyamqp._transport.KNOWN_TCP_OPTS.discard("TCP_MAXSEG")


def receive(connection, count):
    client = EventHubConsumerClient.from_connection_string(connection, consumer_group="$Default")
    left = int(count)
    done = threading.Event()

    def on_batch(_, events):
        nonlocal left
        left -= len(events)
        if left <= 0:
            done.set()

    options = {"partition_id": "0", "starting_position": "-1", "prefetch": 2000, "max_batch_size": 2000}
    threading.Thread(target=client.receive_batch, args=(on_batch,), kwargs=options, daemon=True).start()
    done.wait()
    # Closing takes seconds that are not what is measured.
    os._exit(0)


def send(connection, count, size):
    left, payload = int(count), b"x" * int(size)
    with EventHubProducerClient.from_connection_string(connection) as client:
        while left:
            batch = client.create_batch(partition_id="0")
            while left:
                try:
                    batch.add(EventData(payload))
                except ValueError:
                    break
                left -= 1
            client.send_batch(batch)


{"receive": receive, "send": send}[sys.argv[1]](*sys.argv[2:])
