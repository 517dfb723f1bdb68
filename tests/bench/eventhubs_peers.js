// rhea and nothing else, for eventhubs.py: `receive PORT HUB COUNT` reads partition 0 from its beginning, `send PORT HUB COUNT SIZE`
// sends events there, one a transfer, as many at once as there is credit.
'use strict';

const rhea = require('rhea');

const [what, port, hub, ...numbers] = process.argv.slice(2);
const [count, size] = numbers.map(Number);
const connection = rhea.connect({
  host: '127.0.0.1',
  port: Number(port),
  username: 'RootManageSharedAccessKey',
  password: 'SAS_KEY_VALUE',
  reconnect: false,
});
rhea.on('connection_error', (context) => {
  throw new Error(String(context.connection.error));
});

function receive() {
  const filter = rhea.filter.selector("amqp.annotation.x-opt-offset > '-1'");
  const receiver = connection.open_receiver({
    source: { address: `${hub}/ConsumerGroups/$Default/Partitions/0`, filter },
    credit_window: 1000,
  });
  let received = 0;
  receiver.on('message', () => {
    received += 1;
    if (received === count) process.exit(0);
  });
}

function send() {
  const sender = connection.open_sender({ target: { address: `${hub}/Partitions/0` } });
  const body = rhea.message.data_section(Buffer.alloc(size, 'x'));
  let sent = 0;
  let accepted = 0;
  sender.on('sendable', () => {
    while (sent < count && sender.sendable()) {
      sender.send({ body });
      sent += 1;
    }
  });
  sender.on('accepted', () => {
    accepted += 1;
    if (accepted === count) process.exit(0);
  });
}

({ receive, send })[what]();
