// npm's ws as echo server and as its client, for websocket.py: `serve` writes its port and serves until standard input ends;
// `client PORT COUNT SIZE WINDOW` sends so many text messages, up to WINDOW at once, and ends when all have come back.
'use strict';

const { WebSocket, WebSocketServer } = require('ws');

const [what, ...rest] = process.argv.slice(2);

function serve() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false }, () => {
    console.log(server.address().port);
  });
  server.on('connection', (socket) => socket.on('message', (data, binary) => socket.send(data, { binary })));
  process.stdin.resume().on('end', () => process.exit(0));
}

function client(port, count, size, window) {
  const text = 'x'.repeat(size);
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false });
  let sent = 0;
  let received = 0;
  const fill = () => {
    while (sent < count && sent - received < window) {
      socket.send(text);
      sent += 1;
    }
  };
  socket.on('open', fill);
  socket.on('error', (error) => {
    throw error;
  });
  socket.on('message', () => {
    received += 1;
    if (received === count) socket.close();
    else fill();
  });
  socket.on('close', () => process.exit(received === count ? 0 : 1));
}

if (what === 'serve') serve();
else client(...rest.map(Number));
