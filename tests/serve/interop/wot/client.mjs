// node-wot, as its documentation says: it reads every property of a Thing, hears its events and invokes actions.
// One line of JSON comes in: {url, token, invoke: [[action, input], ...], binary: [[action, base64], ...],
// hear: [event, ...]}; lines of JSON go out, and the program ends when it has heard one event of each name.
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import core from "@node-wot/core";
import http from "@node-wot/binding-http";

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const text = await new Promise((resolve) => createInterface({ input: process.stdin }).once("line", resolve));
const { url, token, invoke = [], binary = [], hear = [] } = JSON.parse(text);

const servient = new core.Servient();
servient.addClientFactory(new http.HttpClientFactory(null));
const wot = await servient.start();
const td = await wot.requestThingDescription(url);
if (token) servient.addCredentials({ [td.id]: { token } });
const thing = await wot.consume(td);

for (const name of Object.keys(td.properties)) {
  say({ property: name, value: await (await thing.readProperty(name)).value() });
}
const waiting = new Set(hear);
const subscriptions = [];
const heard = new Promise((resolve) => {
  if (waiting.size === 0) resolve();
  globalThis.arrived = (name) => {
    waiting.delete(name);
    if (waiting.size === 0) resolve();
  };
});
const report = (kind, name) => async (output) => {
  say({ [kind]: name, value: await output.value() });
  globalThis.arrived(name);
};
let stopping = false;
const failed = (name) => (error) => stopping || say({ failed: name, error: `${error}` });
for (const name of hear) {
  // With an index, node-wot 0.9.2 takes a new client, and gives it credentials at its first use of a Thing alone.
  const one = await wot.consume(td);
  const forms = (name in td.events ? td.events : td.properties)[name].forms;
  // Its streams send no token: with one, it polls.
  const formIndex = forms.findIndex((form) => form.subprotocol === (token ? "longpoll" : "sse"));
  subscriptions.push(
    name in td.events
      ? await one.subscribeEvent(name, report("event", name), failed(name), { formIndex })
      : await one.observeProperty(name, report("observed", name), failed(name), { formIndex }),
  );
}
say({ ready: true });
for (const [name, input] of invoke) {
  try {
    const output = await thing.invokeAction(name, input ?? undefined);
    say({ action: name, value: output === undefined ? null : await output.value() });
  } catch (error) {
    say({ refused: name, error: `${error}` });
  }
}
for (const [name, content] of binary) {
  const formIndex = td.actions[name].forms.findIndex((form) => form.contentType === "application/octet-stream");
  const stream = core.ProtocolHelpers.toWoTStream(Readable.from(Buffer.from(content, "base64")));
  const output = await (await wot.consume(td)).invokeAction(name, stream, { formIndex });
  say({ action: name, value: await output.value() });
}
await heard;
stopping = true;
for (const one of subscriptions) await one.stop();
await servient.shutdown();
process.exit(0);
