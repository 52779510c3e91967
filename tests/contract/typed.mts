// Places an order, replays and confirms it with the typed client that generators make of docs/openapi.yaml.
// scripts/contract.sh generates the types, checks this file with them, and runs it against the service at BASE_URL.
import createClient from 'openapi-fetch';
import type { components, paths } from '../../.local/contract/orders.d.ts';

declare const process: { env: Record<string, string | undefined> };

const client = createClient<paths>({ baseUrl: process.env.BASE_URL });
const header = { 'Idempotency-Key': crypto.randomUUID() };
const order: components['schemas']['NewOrder'] = {
  customerId: 'c-42', currency: 'RUB', items: [{ sku: 'BOOK-1', quantity: 2, unitAmount: 59900 }],
};

function equal(found: unknown, expected: unknown) {
  if (found !== expected) throw new Error(`typed client: ${found}, not ${expected}`);
}

const first = await client.POST('/orders', { params: { header }, body: order });
if (!first.data) throw new Error(`typed client: ${first.response.status} ${first.error.type}: ${first.error.detail}`);
const { orderId, version, totalAmount, status } = first.data;
equal(`${first.response.status} ${status} ${version} ${totalAmount}`, '201 created 1 119800');
equal(first.response.headers.get('Idempotent-Replayed'), 'false');

const again = await client.POST('/orders', { params: { header }, body: order });
equal(again.response.headers.get('Idempotent-Replayed'), 'true');
equal(JSON.stringify(again.data), JSON.stringify(first.data));

const other = await client.POST('/orders', { params: { header }, body: { ...order, comment: 'another order' } });
equal(other.error?.type, '/problems/idempotency-key-reused');
equal(other.error?.orderId, orderId);

const changed = await client.PATCH('/orders/{orderId}', {
  params: { path: { orderId }, header: { 'If-Match': `"${version}"` } },
  body: { status: 'confirmed' },
  headers: { 'Content-Type': 'application/merge-patch+json' },
});
equal(changed.data?.version, 2);
const read = await client.GET('/orders/{orderId}', { params: { path: { orderId } } });
equal(read.data?.status, 'confirmed');

// What the contract does not allow does not compile.
export const wrong = [
  // @ts-expect-error: without a key
  () => client.POST('/orders', { body: order }),
  // @ts-expect-error: a quantity is a number
  () => client.POST('/orders', { params: { header }, body: { ...order, items: [{ sku: 'B', quantity: '2', unitAmount: 1 }] } }),
  // @ts-expect-error: no such status
  () => client.PATCH('/orders/{orderId}', { params: { path: { orderId }, header: { 'If-Match': '"1"' } }, body: { status: 'lost' } }),
  // @ts-expect-error: no such path
  () => client.GET('/order'),
  // @ts-expect-error: no such member
  () => first.data.price,
];
console.log(`contract: the typed client has placed, replayed and confirmed ${orderId}`);
