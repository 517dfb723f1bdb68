// What the npm client does with core NATS, against any server: node core.js URL. Ends with status 0.
"use strict";
const assert = require("node:assert");
const { connect, headers, errors } = require("@nats-io/transport-node");

const text = new TextEncoder();

async function main(url) {
  const nc = await connect({ servers: url, name: "npm" });
  const other = await connect({ servers: url });

  const sub = nc.subscribe("a.*", { max: 3 });
  await nc.flush();
  for (let number = 0; number < 5; number++) other.publish(`a.${number}`, `${number}`);
  const got = [];
  for await (const message of sub) got.push(`${message.subject}=${message.string()}`);
  assert.deepStrictEqual(got, ["a.0=0", "a.1=1", "a.2=2"]);

  other.subscribe("svc", { queue: "workers", callback: (_error, message) => message.respond("re: " + message.string()) });
  await other.flush();
  for (let number = 0; number < 50; number++) {
    const reply = await nc.request("svc", `${number}`, { timeout: 20000 });
    assert.strictEqual(reply.string(), `re: ${number}`);
  }
  await assert.rejects(nc.request("nobody", "", { timeout: 20000 }), (error) => {
    return error instanceof errors.NoRespondersError || error.cause instanceof errors.NoRespondersError;
  });

  const withHeaders = nc.subscribe("h", { max: 1 });
  const set = headers();
  set.append("name", "one");
  set.append("name", "two");
  nc.publish("h", text.encode("body"), { headers: set });
  for await (const message of withHeaders) {
    assert.deepStrictEqual(message.headers.values("name"), ["one", "two"]);
    assert.strictEqual(message.string(), "body");
  }

  assert.ok((await nc.rtt()) >= 0);
  await other.drain();
  await nc.drain();
  console.log("passed");
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
