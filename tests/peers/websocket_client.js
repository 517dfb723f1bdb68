// A WebSocket client on npm's `ws`: sends each line of stdin and prints what comes, one JSON text a line.
// Arguments: URL, then optionally a subprotocol.
const WebSocket = require('ws');
const readline = require('readline');

const [url, protocol] = process.argv.slice(2);
const socket = new WebSocket(url, protocol ? [protocol] : [], { perMessageDeflate: { threshold: 0 } });
const say = (what) => console.log(JSON.stringify(what));
socket.on('open', () => {
  say({ open: true, protocol: socket.protocol, extensions: socket.extensions });
  readline.createInterface({ input: process.stdin }).on('line', (line) => {
    if (line === 'ping') socket.ping('hello');
    else if (line === 'binary') socket.send(Buffer.from([0, 255, 1]));
    else if (line.startsWith('close ')) socket.close(Number(line.slice(6)), 'as told');
    else socket.send(line);
  });
});
socket.on('message', (data, binary) => say({ message: binary ? data.toString('hex') : data.toString(), binary }));
socket.on('pong', (data) => say({ pong: data.toString() }));
socket.on('unexpected-response', (_, response) => {
  let body = '';
  response.on('data', (data) => (body += data));
  response.on('end', () => {
    say({ refused: response.statusCode, body });
    process.exit(4);
  });
});
socket.on('error', (error) => say({ error: error.message }));
socket.on('close', (code, reason) => {
  say({ closed: code, reason: reason.toString() });
  process.exit(0);
});
