// The pages as a person uses them. Run through scripts/browser.sh.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createRequire } from 'node:module';
import { launch } from './chromium.mjs';

const base = process.env.BASE_URL;
const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const views = [360, 1280].flatMap((width) => ['light', 'dark'].map((colorScheme) => ({ width, colorScheme })));
let browser;

before(async () => {
  assert.ok(base && process.env.CHROMIUM, 'run this through scripts/browser.sh');
  browser = await launch();
});
after(() => browser?.close());

/** A page of `path`, with everything the browser complained about and asked for. */
async function open(path, { width = 1280, colorScheme = 'light' } = {}) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith(`${base}/`) && !request.url().startsWith('data:')) complaints.push(`asked ${request.url()}`);
  });
  // The page's policy applies to script elements, but not to an init script.
  await page.addInitScript({ path: axe });
  const response = await page.goto(base + path);
  return { page, complaints, response, close: () => context.close() };
}

async function assertFits(page, about) {
  const wider = await page.evaluate(() => {
    const limit = document.documentElement.clientWidth;
    return [...document.querySelectorAll('*')].filter((element) => element.getBoundingClientRect().right > limit + 1)
      .map((element) => `${element.tagName} ${element.textContent.slice(0, 40)}`)
      .concat(document.scrollingElement.scrollWidth > limit ? ['the page scrolls sideways'] : []);
  });
  assert.deepEqual(wider, [], about);
}

async function assertAccessible(page, about) {
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`);
  assert.deepEqual(found, [], about);
  assert.ok(passes.length > 10, about);
}

/** Waits for the n-th exchange and returns what it shows. */
async function exchange(page, n) {
  const article = page.locator('article', { has: page.getByRole('heading', { level: 3, name: new RegExp(`^${n}\\. `) }) });
  await article.waitFor();
  const facts = Object.fromEntries((await article.locator('li').allTextContents()).map((text) => text.split(/: (.*)/s).slice(0, 2)));
  const [request, answer] = await article.locator('pre').allTextContents();
  return { facts, request, answer };
}

/** An event of the feed, as far as the page reads it. */
const event = (version, status) => ({
  type: `order.${status}`, subject: '01a215f0-acfd-7205-ae85-c334705791d2', time: '2026-11-26T03:40:24.189Z', data: { version },
});
const orders = async (key) => (await (await fetch(`${base}/orders?idempotencyKey=${key}`)).json()).orders;
const keyOf = (request) => request.match(/Idempotency-Key: (.*)/)[1];
/** Chromium reports each 4xx as an error of the console by itself. */
const isExpected = (status) => (text) => text.startsWith('Failed to load resource') && text.includes(String(status));

test('the form shows an order placed once, repeated, and refused under a reused key', async () => {
  const { page, complaints, close } = await open('/');
  for (const name of ['Send the same again', 'Same key, another order', 'Confirm version 1', 'Cancel version 1']) {
    assert.ok(await page.getByRole('button', { name }).isDisabled(), name);
  }
  await page.getByLabel('Customer').fill('клиент <b>&');
  await page.getByRole('button', { name: 'Place with a fresh key' }).click();
  const first = await exchange(page, 1);
  assert.equal(first.facts.Status, '201');
  assert.equal(first.facts.Replayed, 'false');
  assert.match(first.facts.Time, /^\d+ ms$/);
  const key = keyOf(first.request);
  assert.equal((await orders(key))[0].orderId, first.facts.Order);
  assert.match(first.answer, /Idempotent-Replayed: false/);
  assert.match(first.request, /клиент <b>&/);

  await page.getByRole('button', { name: 'Send the same again' }).click();
  const again = await exchange(page, 2);
  assert.equal(again.request, first.request);
  assert.deepEqual({ ...again.facts, Time: 0 }, { Status: '201', Replayed: 'true', Order: first.facts.Order, 'Same bytes as the first answer': 'yes', Time: 0 });
  assert.match(await page.getByRole('status').textContent(), /^The same again: 201, Idempotent-Replayed: true, \d+ ms\.$/);
  assert.deepEqual(complaints, []);

  await page.getByRole('button', { name: 'Same key, another order' }).click();
  const reused = await exchange(page, 3);
  assert.equal(keyOf(reused.request), key);
  assert.equal(reused.facts.Status, '422');
  assert.match(reused.answer, /idempotency-key-reused/);
  assert.equal((await orders(key)).length, 1);

  await page.getByRole('button', { name: 'Confirm version 1' }).click();
  assert.match((await exchange(page, 4)).answer, /^200\n[^]*ETag: "2"[^]*"status": "confirmed"/);
  await page.getByRole('button', { name: 'Confirm version 1' }).click();
  assert.equal((await exchange(page, 5)).answer, (await exchange(page, 4)).answer);
  await page.getByRole('button', { name: 'Cancel version 1' }).click();
  assert.match((await exchange(page, 6)).answer, /^412\n[^]*ETag: "2"/);
  assert.equal((await orders(key))[0].status, 'confirmed');

  await page.getByRole('button', { name: 'Place with a fresh key' }).click();
  const second = await exchange(page, 7);
  assert.notEqual(keyOf(second.request), key);
  assert.notEqual(second.facts.Order, first.facts.Order);
  assert.equal(complaints.length, 2, complaints.join('\n'));
  assert.ok(complaints.some(isExpected(422)) && complaints.some(isExpected(412)), complaints.join('\n'));
  await close();
});

test('an order that the service refuses is shown with its faults', async () => {
  const { page, close } = await open('/');
  // Bypasses the form's own check: the service is asked, and explains.
  await page.evaluate(() => { document.querySelector('form').noValidate = true; });
  await page.getByLabel('Quantity').fill('0');
  await page.getByRole('button', { name: 'Place with a fresh key' }).click();
  const { facts, answer } = await exchange(page, 1);
  assert.equal(facts.Status, '422');
  assert.match(answer, /"pointer": "\/items\/0\/quantity"/);
  assert.ok(await page.getByRole('button', { name: 'Confirm version 1' }).isDisabled());
  await close();
});

test('a token is sent, and neither shown nor kept', async () => {
  const { page, complaints, close } = await open('/');
  const sent = [];
  page.on('request', (request) => sent.push(request.headers().authorization));
  await page.getByRole('button', { name: 'Place with a fresh key' }).click();
  const without = await exchange(page, 1);
  await page.getByLabel('Token').fill(' s3cret-token ');
  await page.getByRole('button', { name: 'Place with a fresh key' }).click();
  const { request } = await exchange(page, 2);
  assert.deepEqual(sent, [undefined, 'Bearer s3cret-token']);
  assert.doesNotMatch(without.request, /Authorization/);
  assert.match(request, /^POST \/orders\nAuthorization: Bearer …\n/);
  const kept = await page.evaluate(async () => [
    document.body.innerText, location.href, document.cookie, JSON.stringify({ ...localStorage, ...sessionStorage }),
    ...(await indexedDB.databases()).map(({ name }) => name), ...(await globalThis.caches?.keys() ?? []),
  ].join(' '));
  assert.doesNotMatch(kept, /s3cret/);
  await page.reload();
  assert.equal(await page.getByLabel('Token').inputValue(), '');
  assert.deepEqual(complaints, []);
  await close();
});

test('the feed is followed to its newest event, and on', async () => {
  const { page, complaints, close } = await open('/');
  await page.getByRole('button', { name: 'Place with a fresh key' }).click();
  const { facts } = await exchange(page, 1);
  const follow = page.getByRole('button', { name: 'Follow the feed' });
  await follow.click();
  assert.equal(await follow.getAttribute('aria-pressed'), 'true');
  const shown = (what) => page.getByRole('listitem').filter({ hasText: what }).filter({ hasText: facts.Order }).filter({ has: page.locator('code') });
  // It begins with the oldest order of the database.
  await shown('order.created, version 1').waitFor({ timeout: 120_000 });
  await page.getByRole('button', { name: 'Confirm version 1' }).click();
  await shown('order.confirmed, version 2').waitFor();
  assert.ok(await page.locator('#events li').count() <= 20);
  assert.equal(await page.locator('#events').getAttribute('start'), (await page.locator('#feed-status').textContent()).match(/^\d+/)[0]);

  await follow.click();
  assert.equal(await follow.getAttribute('aria-pressed'), 'false');
  await page.getByRole('button', { name: 'Cancel version 1' }).click(); // refused, but slow
  await exchange(page, 3);
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url())));
  await follow.click();
  await page.waitForResponse(/events/);
  assert.ok(asked[0].searchParams.has('after'), `it goes on where it was: ${asked[0]}`);
  assert.deepEqual(complaints.filter((text) => !isExpected(412)(text)), []);
  await close();
});

test('a feed that fails, has expired or is refused shows a message', async () => {
  const { page, close } = await open('/');
  const status = page.locator('#feed-status');
  const answers = [
    [200, [event(1, 'created')]], [503, { detail: 'Away.' }], [200, [event(2, 'confirmed')]], [410, { detail: 'Expired.' }],
    [200, [event(2, 'confirmed')]], [200, []], [401, { detail: 'Whose?' }],
  ];
  const asked = [];
  await page.route('**/events*', (route) => {
    asked.push(new URL(route.request().url()).search + (route.request().headers().authorization ?? ''));
    const [status, body] = answers[asked.length - 1];
    return route.fulfill({ status, body: JSON.stringify(body), headers: { Link: `</events?after=${asked.length}>; rel="next"`, 'Retry-After': '1' } });
  });
  await page.getByLabel('Token').fill('s3cret');
  await page.getByRole('button', { name: 'Follow the feed' }).click();
  await status.filter({ hasText: '503: Away.' }).waitFor();
  await status.filter({ hasText: '1 event so far, nothing new.' }).waitFor();
  assert.deepEqual(await page.locator('#events li').allTextContents(), ['order.confirmed, version 2, 2026-11-26T03:40:24.189Z 01a215f0-acfd-7205-ae85-c334705791d2']);
  await status.filter({ hasText: '401: Whose?' }).waitFor();
  assert.equal(await page.getByRole('button', { name: 'Follow the feed' }).getAttribute('aria-pressed'), 'false');
  const bearer = 'Bearer s3cret';
  assert.deepEqual(asked, ['', '?after=1', '?after=1', '?after=3', '', '?after=5', '?after=6'].map((query) => query + bearer));
  await close();
});

test('without an answer the page shows a message, and the same request can be sent again', async () => {
  const { page, close } = await open('/');
  await page.route('**/orders', (route) => route.abort());
  await page.getByRole('button', { name: 'Place with a fresh key' }).click();
  const lost = await exchange(page, 1);
  assert.equal(lost.facts.Status, 'none');
  assert.match(lost.answer, /^No answer: /);
  await page.unroute('**/orders');
  await page.getByRole('button', { name: 'Send the same again' }).click();
  const settled = await exchange(page, 2);
  assert.equal(settled.request, lost.request);
  assert.deepEqual([settled.facts.Status, settled.facts.Replayed], ['201', 'false']);
  await close();
});

test('the form works by keyboard alone and keeps the focus', async () => {
  const { page, close } = await open('/');
  const focused = () => page.evaluate(() => document.activeElement.id);
  const order = ['customer', 'currency', 'sku', 'quantity', 'amount', 'token', 'place'];
  for (const id of order) {
    await page.keyboard.press('Tab');
    assert.equal(await focused(), id);
  }
  await page.keyboard.press('Enter');
  await exchange(page, 1);
  assert.equal(await focused(), 'place');
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'repeat');
  await page.keyboard.press('Space');
  assert.equal((await exchange(page, 2)).facts.Replayed, 'true');
  assert.equal(await focused(), 'repeat');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, 'solid');
  await close();
});

test('the first page fits, is accessible and complains of nothing, narrow and wide, light and dark', async () => {
  const backgrounds = new Set();
  for (const view of views) {
    const about = `${view.width} ${view.colorScheme}`;
    const { page, complaints, close } = await open('/', view);
    await assertFits(page, about);
    await assertAccessible(page, about);
    await page.getByRole('button', { name: 'Place with a fresh key' }).click();
    await exchange(page, 1);
    await page.getByRole('button', { name: 'Send the same again' }).click();
    await exchange(page, 2);
    await page.route('**/events*', (route) => route.fulfill({ json: [event(1, 'created'), event(2, 'confirmed')], headers: { Link: '</events?after=2>; rel="next"' } }));
    await page.getByRole('button', { name: 'Follow the feed' }).click();
    await page.locator('#events li').nth(1).waitFor();
    await page.getByRole('button', { name: 'Follow the feed' }).click();
    await assertFits(page, about);
    await assertAccessible(page, about);
    backgrounds.add(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    const sides = await page.locator('article').first().locator('.sides > div').all();
    const [left, right] = await Promise.all(sides.map((side) => side.boundingBox()));
    assert.equal(left.y === right.y, view.width > 1000, `${about}: request and answer side by side`);
    if (view.width > 1000) await page.screenshot({ path: `target/browser/top-${view.colorScheme}.png`, clip: { x: 0, y: 0, width: 1280, height: 1000 }, fullPage: true });
    await page.screenshot({ path: `target/browser/home-${view.width}-${view.colorScheme}.png`, fullPage: true });
    assert.deepEqual(complaints, [], about);
    await close();
  }
  assert.equal(backgrounds.size, 2);
});

test('the policy blocks everything but the page itself', async () => {
  const { page, complaints, close } = await open('/');
  await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.body.append(script);
  });
  assert.equal(await page.evaluate(() => window.ran), undefined);
  assert.equal(complaints.length, 1);
  assert.match(complaints[0], /Content Security Policy/);
  await close();
});

test('each problem has a page that fits and is accessible', async () => {
  const { page: list, complaints: none, close } = await open('/problems/', { width: 360 });
  await assertFits(list, 'list');
  await assertAccessible(list, 'list');
  const paths = await list.locator('main a').evaluateAll((links) => links.map((link) => new URL(link.href).pathname));
  assert.ok(paths.length > 15);
  assert.deepEqual(none, []);
  await close();
  for (const [n, path] of paths.entries()) {
    const { page, complaints, response, close } = await open(path, views[n % views.length]);
    assert.equal(response.status(), 200, path);
    await assertFits(page, path);
    await assertAccessible(page, path);
    assert.equal(await page.locator('h2').count(), 3, path);
    assert.deepEqual(complaints, [], path);
    if (path.endsWith('reused')) await page.screenshot({ path: 'target/browser/problem.png' });
    await close();
  }
});

test('the client of examples/ works in a browser: a lost answer is asked for again, and no redirect is followed', async () => {
  const page = await browser.newPage();
  await page.route(`${base}/blank`, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
  await page.route(`${base}/client.mjs`, (route) => route.fulfill({ contentType: 'text/javascript', path: 'examples/client.mjs' }));
  await page.route(`${base}/moved/orders`, (route) => route.fulfill({ status: 307, headers: { Location: `${base}/orders` } }));
  const sent = [];
  await page.route(`${base}/orders`, async (route) => {
    sent.push(route.request().headers()['idempotency-key']);
    if (sent.length > 1) return route.continue();
    await route.fetch();
    await route.abort();
  });
  await page.goto(`${base}/blank`);
  const found = await page.evaluate(async () => {
    const { Orders, Refused } = await import(`${location.origin}/client.mjs`);
    const order = { customerId: 'c-42', currency: 'RUB', items: [{ sku: 'BOOK-1', quantity: 2, unitAmount: 59900 }] };
    const { orderId } = await new Orders(location.origin).placeOrder(order);
    const moved = await new Orders(`${location.origin}/moved`).placeOrder(order).catch((error) => error instanceof Refused);
    return { orderId, moved };
  });
  const listed = await orders(sent[0]);
  assert.deepEqual([sent.length, new Set(sent).size, found.moved], [2, 1, true]);
  assert.deepEqual(listed.map(({ orderId }) => orderId), [found.orderId]);
  await page.close();
});
