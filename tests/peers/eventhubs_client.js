// @azure/event-hubs, Microsoft's SDK, as client of `tracemq serve eventhubs`; and rhea beneath it, for what no SDK would do.
//
// eventhubs_client.js CONNECTION_STRING HUB COMMAND [--ws]
//
// Prints a line of JSON for each thing that it has to tell, and ends with status 0; or one with "error", and status 1.
const {
  EventHubProducerClient,
  EventHubConsumerClient,
  EventHubBufferedProducerClient,
  earliestEventPosition,
  latestEventPosition,
} = require('@azure/event-hubs');
const rhea = require('rhea');
const WebSocket = require('ws');

const [connection, hub, command, ...flags] = process.argv.slice(2);
const tell = (what) => console.log(JSON.stringify(what));
const options = {
  retryOptions: { maxRetries: 0, timeoutInMs: 30000 },
  ...(flags.includes('--ws') ? { webSocketOptions: { webSocket: WebSocket } } : {}),
};
const producer = () => new EventHubProducerClient(connection, hub, options);
const consumer = (group = '$Default') => new EventHubConsumerClient(group, connection, hub, options);

// Two clients with one of these share the partitions.
class Checkpoints {
  owners = new Map();
  checkpoints = new Map();

  async listOwnership() {
    return [...this.owners.values()].map((owner) => ({ ...owner }));
  }

  async claimOwnership(wanted) {
    const claimed = [];
    for (const claim of wanted) {
      const known = this.owners.get(claim.partitionId);
      if (known && known.etag !== claim.etag) continue;
      const owner = { ...claim, etag: String(process.hrtime.bigint()), lastModifiedTimeInMs: Date.now() };
      this.owners.set(claim.partitionId, owner);
      claimed.push({ ...owner });
    }
    return claimed;
  }

  async updateCheckpoint(checkpoint) {
    this.checkpoints.set(checkpoint.partitionId, checkpoint);
  }

  async listCheckpoints() {
    return [...this.checkpoints.values()];
  }
}

async function until(what, condition) {
  const deadline = Date.now() + 90000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

// Receives so many events of a partition from a position.
function receive(client, partition, count, startPosition, more = {}) {
  return new Promise((resolve, reject) => {
    const got = [];
    const subscription = client.subscribe(
      partition,
      {
        processEvents: async (events, context) => {
          for (const event of events) {
            got.push({
              body: Buffer.isBuffer(event.body) ? event.body.toString() : event.body,
              sequence: event.sequenceNumber,
              offset: event.offset,
              key: event.partitionKey,
              newest: context.lastEnqueuedEventProperties && context.lastEnqueuedEventProperties.sequenceNumber,
            });
          }
          if (got.length >= count) {
            await subscription.close();
            resolve(got);
          }
        },
        processError: async (error) => reject(error),
      },
      { startPosition, maxWaitTimeInSeconds: 1, ...more },
    );
  });
}

const COMMANDS = {
  // Properties, sends of each kind, and reads from each kind of place.
  async round() {
    const sender = producer();
    const reader = consumer();
    const about = await reader.getEventHubProperties();
    tell({ hub: about.name, partitions: about.partitionIds });
    const batch = await sender.createBatch({ partitionId: '0' });
    for (const body of ['one', 'two', 'three']) batch.tryAdd({ body, properties: { language: 'js' } });
    await sender.sendBatch(batch);
    await sender.sendBatch([{ body: 'four' }], { partitionKey: 'a key' });
    await sender.sendBatch([{ body: { five: 5 } }]);
    tell({ limit: batch.maxSizeInBytes });
    const partition = await reader.getPartitionProperties('0');
    tell({ last: partition.lastEnqueuedSequenceNumber, empty: partition.isEmpty });
    const all = await receive(reader, '0', 3, earliestEventPosition, { trackLastEnqueuedEventProperties: true });
    tell({ all: all.slice(0, 3) });
    const shown = (events) => events.slice(0, 2).map((event) => event.body);
    tell({
      bySequence: shown(await receive(reader, '0', 2, { sequenceNumber: 0 })),
      bySequenceInclusive: shown(await receive(reader, '0', 2, { sequenceNumber: 0, isInclusive: true })),
      byOffset: shown(await receive(reader, '0', 2, { offset: all[0].offset })),
      byTime: shown(await receive(reader, '0', 2, { enqueuedOn: new Date(0) })),
    });
    const latest = receive(reader, '1', 1, latestEventPosition);
    // Sent again until the reader, of which nobody says when it is there, has it.
    const timer = setInterval(() => sender.sendBatch([{ body: 'new' }], { partitionId: '1' }).catch(() => {}), 500);
    tell({ latest: shown(await latest)[0] });
    clearInterval(timer);
    await sender.close();
    await reader.close();
  },

  // Two processors with one store of checkpoints share all partitions; then the second has them all.
  async share() {
    const store = new Checkpoints();
    const owned = { one: new Set(), two: new Set() };
    const seen = new Set();
    const processor = (name) => {
      const client = new EventHubConsumerClient('$Default', connection, hub, store, {
        ...options,
        loadBalancingOptions: { strategy: 'balanced', updateIntervalInMs: 1000, partitionOwnershipExpirationIntervalInMs: 6000 },
      });
      const subscription = client.subscribe(
        {
          processEvents: async (events, context) => {
            owned[name].add(context.partitionId);
            for (const event of events) seen.add(`${context.partitionId}:${event.sequenceNumber}`);
            if (events.length) await context.updateCheckpoint(events[events.length - 1]);
          },
          processClose: async (_, context) => owned[name].delete(context.partitionId),
          processError: async () => {},
        },
        { startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1 },
      );
      return async () => {
        await subscription.close();
        await client.close();
      };
    };
    const sender = producer();
    const partitions = await sender.getPartitionIds();
    const publish = async () => {
      for (const partitionId of partitions) {
        await sender.sendBatch([...Array(10).keys()].map((body) => ({ body })), { partitionId });
      }
    };
    const size = partitions.length;
    await publish();
    const closeOne = processor('one');
    await until('the first alone', () => owned.one.size === size && seen.size === 10 * size);
    const closeTwo = processor('two');
    const apart = () => partitions.every((id) => owned.one.has(id) !== owned.two.has(id));
    await until('both share', () => owned.one.size && owned.two.size && apart());
    tell({ one: owned.one.size, two: owned.two.size });
    await closeOne();
    await publish();
    await until('the second alone', () => owned.two.size === size && seen.size === 20 * size);
    await closeTwo();
    await sender.close();
    tell({ events: seen.size });
  },

  // A reader with a higher owner level takes the partition; one with a lower is refused.
  async steal() {
    const attempt = (level) => {
      const client = consumer();
      return new Promise((resolve) => {
        client.subscribe(
          '0',
          {
            processInitialize: async () => {},
            processEvents: async (events) => events.length && resolve({ client, level, reads: true }),
            processError: async (error) => tell({ level, code: error.code }),
          },
          { ownerLevel: level, startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1 },
        );
      });
    };
    const sender = producer();
    await sender.sendBatch([{ body: 'x' }], { partitionId: '0' });
    const first = await attempt(1);
    const second = await attempt(2);
    tell({ reads: second.level });
    attempt(1);
    setTimeout(() => process.exit(0), 8000);
    void first;
  },

  async wrong() {
    const sender = producer();
    const fails = async (what, work) => {
      try {
        await work();
        tell({ [what]: 'accepted' });
      } catch (error) {
        tell({ [what]: error.code || error.name });
      }
    };
    await fails('send', () => sender.sendBatch([{ body: 'x' }]));
    await fails('properties', () => sender.getEventHubProperties());
    await sender.close();
  },

  async large() {
    const sender = producer();
    const batch = await sender.createBatch({ partitionId: '0' });
    let count = 0;
    while (batch.tryAdd({ body: 'x'.repeat(1000) })) count += 1;
    await sender.sendBatch(batch);
    tell({ sent: count, bytes: batch.sizeInBytes, limit: batch.maxSizeInBytes });
    try {
      await sender.sendBatch([{ body: 'x'.repeat(batch.maxSizeInBytes) }], { partitionId: '0' });
    } catch (error) {
      tell({ tooLarge: error.code || error.name });
    }
    await sender.close();
  },

  async buffered() {
    let accepted = 0;
    const failed = [];
    const client = new EventHubBufferedProducerClient(connection, hub, {
      ...options,
      maxWaitTimeInMs: 200,
      onSendEventsSuccessHandler: ({ events }) => (accepted += events.length),
      onSendEventsErrorHandler: ({ error }) => failed.push(error.message),
    });
    for (let number = 0; number < 200; number += 1) {
      await client.enqueueEvent({ body: number }, number % 2 ? { partitionKey: `key-${number % 10}` } : {});
    }
    await client.flush();
    await client.close();
    tell({ accepted, failed });
  },

  // A reader that gives much credit and then takes nothing from its socket.
  stall() {
    const parts = Object.fromEntries(connection.split(';').map((part) => [part.split('=')[0], part.split(/=(.*)/)[1]]));
    const [host, port] = parts.Endpoint.replace('sb://', '').replace('/', '').split(':');
    const link = rhea.connect({
      host, port, username: parts.SharedAccessKeyName, password: parts.SharedAccessKey, reconnect: false,
    });
    rhea.on('connection_error', (context) => tell({ error: String(context.connection.error) }));
    const filter = rhea.filter.selector("amqp.annotation.x-opt-offset > '-1'");
    const receiver = link.open_receiver({
      source: { address: `${hub}/ConsumerGroups/$Default/Partitions/0`, filter }, credit_window: 0, autoaccept: false,
    });
    receiver.on('receiver_open', () => {
      receiver.add_credit(1000000);
      // The credit has to leave first.
      setTimeout(() => {
        link.socket.pause();
        tell({ stalled: true });
      }, 500);
    });
    setInterval(() => {}, 1000);
  },
};

Promise.resolve()
  .then(COMMANDS[command])
  .catch((error) => {
    tell({ error: error.code || error.name, text: error.message });
    process.exit(1);
  });
