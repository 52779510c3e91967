
'use strict';
const at = (id) => document.getElementById(id);
let key, sent, orderPath, count = 0, busy = false;
const firstAnswers = new Map(); // of this key, by token: another client's order is another one

// crypto.randomUUID exists only over HTTPS; this does everywhere.
function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function order() {
  const item = { sku: at('sku').value, quantity: at('quantity').valueAsNumber, unitAmount: at('amount').valueAsNumber };
  return { customerId: at('customer').value, currency: at('currency').value, items: [item] };
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function side(title, text) {
  const made = element('div');
  made.append(element('h4', title), element('pre', text));
  return made;
}

function pretty(body) {
  try { return JSON.stringify(JSON.parse(body), null, 2); } catch { return body; }
}

async function exchange(title, method, path, headers, body) {
  busy = true; // A disabled button would lose the focus, so clicks are ignored instead.
  at('status').textContent = 'Sending…';
  const token = at('token').value.trim(); // It stays in the field: what is shown, stored or in an address has none of it.
  const authorization = token && { Authorization: `Bearer ${token}` };
  const started = performance.now();
  let response, text;
  try {
    response = await fetch(path, { method, headers: { ...authorization, ...headers }, body });
    text = await response.text();
  } catch (error) {
    text = `No answer: ${error.message}. This very request is safe to send again.`;
  }
  const ms = Math.round(performance.now() - started);
  const lines = Object.entries({ ...(token && { Authorization: 'Bearer …' }), ...headers }).map(([name, value]) => `${name}: ${value}\n`).join('');
  const shown = ['Content-Type', 'Location', 'ETag', 'Idempotent-Replayed', 'Retry-After', 'WWW-Authenticate'];
  const answered = response ? shown.filter((name) => response.headers.has(name)).map((name) => `${name}: ${response.headers.get(name)}\n`).join('') : '';

  const facts = element('ul', undefined, 'facts');
  const fact = (name, value, className) => {
    const item = element('li', `${name}: `);
    item.append(element('span', value, className));
    facts.append(item);
  };
  let id;
  try { id = JSON.parse(text).orderId; } catch { /* no JSON, no id */ }
  const replayed = response?.headers.get('Idempotent-Replayed');
  fact('Status', response ? String(response.status) : 'none', response?.ok ? 'good' : 'bad');
  if (replayed) fact('Replayed', replayed);
  if (id) fact('Order', id);
  if (method === 'POST' && response?.ok) {
    const first = firstAnswers.get(token);
    if (first !== undefined) fact('Same bytes as the first answer', text === first ? 'yes' : 'no', text === first ? 'good' : 'bad');
    else firstAnswers.set(token, text);
  }
  fact('Time', `${ms} ms`);

  const article = element('article', undefined, 'exchange');
  count += 1;
  const sides = element('div', undefined, 'sides');
  sides.append(
    side('Request', `${method} /${path}\n${lines}\n${pretty(body)}`),
    side('Answer', response ? `${response.status}\n${answered}\n${pretty(text)}` : text),
  );
  article.append(element('h3', `${count}. ${title}`), facts, sides);
  at('exchanges').prepend(article);
  at('status').textContent = response
    ? `${title}: ${response.status}${replayed ? `, Idempotent-Replayed: ${replayed}` : ''}, ${ms} ms.`
    : `${title}: no answer.`;
  busy = false;
  at('repeat').disabled = false;
  return response && { ok: response.ok, location: response.headers.get('Location') };
}

function post(title, body) {
  return exchange(title, 'POST', 'orders', { 'Idempotency-Key': key, 'Content-Type': 'application/json' }, JSON.stringify(body));
}

function placed(answer) {
  if (!answer?.ok) return;
  // Relative, as all paths here are: a proxy may have put a prefix before them.
  orderPath = answer.location.replace(/^\//, '');
  at('reuse').disabled = at('confirm').disabled = at('cancel').disabled = false;
}

function on(id, event, action) {
  at(id).addEventListener(event, (happened) => {
    happened.preventDefault();
    if (!busy) action();
  });
}

on('order', 'submit', async () => {
  key = freshKey();
  sent = order();
  firstAnswers.clear();
  orderPath = undefined;
  at('reuse').disabled = at('confirm').disabled = at('cancel').disabled = true;
  placed(await post('First request', sent));
});
on('repeat', 'click', async () => placed(await post('The same again', sent)));
on('reuse', 'click', () => {
  const other = structuredClone(sent);
  other.items[0].quantity = other.items[0].quantity % 10000 + 1;
  post('Same key, another order', other);
});
for (const [id, status, title] of [['confirm', 'confirmed', 'Confirm version 1'], ['cancel', 'cancelled', 'Cancel version 1']]) {
  on(id, 'click', () => exchange(title, 'PATCH', orderPath, { 'If-Match': '"1"', 'Content-Type': 'application/merge-patch+json' }, JSON.stringify({ status })));
}

// The feed, from its beginning, or on from where it was left. Another token has another feed.
const SHOWN = 20;
let walk, feedToken, nextPage, seen; // walk: the loop that goes on; another one is left behind

function tell(text) {
  if (at('feed-status').textContent !== text) at('feed-status').textContent = text; // or it would be read out each second
}

function show(event) {
  const item = element('li', `${event.type}, version ${event.data.version}, ${event.time} `);
  item.append(element('code', event.subject));
  at('events').prepend(item);
  if (at('events').children.length > SHOWN) at('events').lastChild.remove();
}

function setWalk(begun) {
  walk = begun;
  at('follow').setAttribute('aria-pressed', String(!!walk));
}

async function follow(mine) {
  while (walk === mine) {
    const token = at('token').value.trim();
    if (nextPage === undefined || token !== feedToken) {
      [feedToken, nextPage, seen] = [token, 'events', 0];
      at('events').replaceChildren();
    }
    let response, page, failure;
    try {
      response = await fetch(nextPage, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
      page = await response.json();
      if (!response.ok) failure = `${response.status}: ${page.detail}`;
    } catch (error) {
      failure = `No answer: ${error.message}.`;
    }
    if (walk !== mine) return;
    if (!failure) {
      page.forEach(show);
      seen += page.length;
      at('events').start = seen;
      nextPage = response.headers.get('Link').match(/<\/([^>]*)>/)[1]; // relative, as all paths here are
      tell(`${seen} ${seen === 1 ? 'event' : 'events'} so far${page.length ? '' : ', nothing new'}.`);
      if (page.length) continue;
    } else if (response?.status === 410) {
      nextPage = undefined; // from another database: begin again
    } else {
      tell(failure);
      if (response?.status < 500) return setWalk(undefined);
    }
    await new Promise((done) => setTimeout(done, 1000 * (response?.headers.get('Retry-After') ?? 1)));
  }
}

at('follow').addEventListener('click', () => {
  setWalk(walk ? undefined : {});
  if (walk) follow(walk);
});
