// Drives a client in JavaScript for client_test.py: a command a line on stdin, its outcome on stdout.
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { writeSync } from 'node:fs';

const { Orders, Refused, Moved, GaveUp } = await import(pathToFileURL(process.argv[2]));
const { url, stops, ...options } = JSON.parse(process.argv[3]);
let pauses = [];
const say = (line) => writeSync(1, `${JSON.stringify(line)}\n`);

const client = new Orders(url, { ...options, pending: (key, order) => say({ pending: key, order }) });
client.sleep = async (pause) => {
  pauses.push(pause);
  if (!stops) return;
  say({ pausing: true });
  await new Promise((done) => setTimeout(done, 600_000));
};

async function listed(items, most = Infinity) {
  const found = [];
  for await (const item of items) if (found.push(item) === most) break;
  return found;
}

const commands = {
  place: ({ order, key }) => client.placeOrder(order, key ?? undefined),
  change: ({ id, version, status }) => client.changeOrder(id, version, status),
  orders: ({ filters }) => listed(client.orders(filters)),
  events: ({ after, pages }) => listed(client.events(after), pages),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let outcome;
  try {
    outcome = { value: await commands[command.do](command) };
  } catch (error) {
    if (error instanceof Refused) outcome = { failure: 'Refused', status: error.status, type: error.type, problem: error.problem };
    else if (error instanceof Moved) outcome = { failure: 'Moved', order: error.order };
    else if (error instanceof GaveUp) outcome = { failure: 'GaveUp', cause: error.message };
    else throw error;
  }
  say({ ...outcome, pauses });
  pauses = [];
}
