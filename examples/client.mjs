// A client that places one order per key, whatever gets lost. Copy this file: it needs Node.js 20 or a browser, and no packages.
//
// It keeps nothing itself. Store the key and the order in `pending`, which runs before the first attempt, and delete them once
// placeOrder returns or throws Refused. After GaveUp or a crash, place the same order with the same key.
//
//     node examples/client.mjs [KEY]     places and confirms an order at BASE_URL; again with its key, it changes nothing

/** An answer that sending again does not change. `type` is the problem's name, such as invalid-order. */
export class Refused extends Error {
  constructor(status, text) {
    let problem;
    try { problem = JSON.parse(text); } catch { /* a proxy's page */ }
    const type = String(problem?.type ?? 'about:blank').split('/').pop();
    super(`${status} ${type}: ${problem?.detail}`);
    Object.assign(this, { status, type, problem: problem ?? {} });
  }
}

/** The order has another version than the one to change. `order` is the present one: decide, and change that. */
export class Moved extends Error {
  constructor(order) {
    super(`the order is ${order.status} at version ${order.version}`);
    this.order = order;
  }
}

/** No definite answer within the limit. The order may be placed or not: the same order with this `key` settles it. */
export class GaveUp extends Error {
  constructor(cause, key) {
    super(`gave up: ${cause.message}`, { cause });
    this.key = key;
  }
}

export class Orders {
  sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

  /** `attempt` limits one attempt, `total` all of them with their pauses, in seconds. */
  constructor(url, { token, attempt = 20, total = 120, pending = async (key, order) => {} } = {}) {
    Object.assign(this, { url: url.replace(/\/$/, ''), token, attempt, total, pending });
  }

  /** Returns the order as it was placed. The key, made here unless given, names it in all attempts. */
  async placeOrder(order, key = crypto.randomUUID()) { // which browsers have over HTTPS
    await this.pending(key, order);
    return (await this.send('POST', '/orders', order, { 'Idempotency-Key': key, 'Content-Type': 'application/json' })).answer;
  }

  /** Returns the changed order, or throws Moved. The version is the key: sending it again is safe. */
  async changeOrder(orderId, version, status) {
    const headers = { 'If-Match': `"${version}"`, 'Content-Type': 'application/merge-patch+json' };
    try {
      return (await this.send('PATCH', `/orders/${orderId}`, { status }, headers)).answer;
    } catch (error) {
      throw error.status === 412 ? new Moved((await this.send('GET', `/orders/${orderId}`)).answer) : error;
    }
  }

  /** Yields the orders, newest first. Filters are customerId, status and idempotencyKey. */
  async *orders(filters = {}) {
    for (let query = { limit: 100, ...filters }; query;) {
      const pairs = Object.entries(query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
      const { answer } = await this.send('GET', `/orders?${pairs.join('&')}`);
      yield* answer.orders; // an empty page need not be the last one
      query = answer.nextCursor && { ...query, cursor: answer.nextCursor };
    }
  }

  /** Yields each page of the feed with the cursor after it, without end; an empty page is up to date. Keep both together.
   * On Refused with the type cursor-expired begin without a cursor, and drop the orders that do not come again. */
  async *events(after) {
    for (;;) {
      const { answer, headers } = await this.send('GET', `/events?limit=100${after ? `&after=${after}` : ''}`);
      after = headers.get('Link')?.match(/after=([^&>]+)/)?.[1]; // not the whole link, which may lead the token elsewhere
      if (!after) throw new Refused(200, '{"detail": "no Link with a cursor"}');
      yield [answer, after];
      if (!answer.length) await this.sleep(Math.max(1, retryAfter(headers)));
    }
  }

  /** Sends the same bytes until an answer settles it. Returns its JSON and its headers. */
  async send(method, path, content, headers = {}) {
    const body = content && JSON.stringify(content);
    const sent = new Headers({ ...headers, ...(this.token && { Authorization: `Bearer ${this.token}` }) });
    for (let left = this.total, grown = 0.25; ; grown = Math.min(2 * grown, 10)) {
      const started = performance.now();
      let cause, asked = 0;
      try {
        const signal = AbortSignal.timeout(Math.ceil(1000 * Math.min(this.attempt, left)));
        const response = await fetch(this.url + path, { method, body, signal, headers: sent, redirect: 'manual' }); // follows none
        const text = await response.text();
        if (response.ok) return { answer: JSON.parse(text), headers: response.headers };
        cause = new Refused(response.status, text);
        asked = retryAfter(response.headers);
      } catch (error) { // no answer, or a cut one
        cause = error;
      }
      const { status, type } = cause; // an error has none
      if (status < 500 && status !== 408 && status !== 429 && type !== 'idempotency-key-in-use') throw cause;
      const pause = asked + grown * (0.5 + Math.random() / 2);
      left -= pause + (performance.now() - started) / 1000;
      if (left <= 0) throw new GaveUp(cause, headers['Idempotency-Key']);
      await this.sleep(pause);
    }
  }
}

/** In seconds, from a number or a date. */
function retryAfter(headers) {
  const asked = headers.get('Retry-After') ?? '';
  return /^\d+$/.test(asked) ? Number(asked) : Math.max(0, (Date.parse(asked) - Date.now()) / 1000) || 0;
}

if (globalThis.process && import.meta.url === new URL(process.argv[1], 'file:').href) {
  const { BASE_URL, TOKEN } = process.env;
  const client = new Orders(BASE_URL || 'http://127.0.0.1:3000', { token: TOKEN, pending: (...kept) => console.log(...kept) });
  const items = [{ sku: 'BOOK-1', quantity: 2, unitAmount: 59900 }];
  const placed = await client.placeOrder({ customerId: 'c-42', currency: 'RUB', items }, ...process.argv.slice(2));
  console.log(await client.changeOrder(placed.orderId, placed.version, 'confirmed'));
}
