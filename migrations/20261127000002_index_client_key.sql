-- migrate: outside a transaction
-- Every client has its own keys: this index takes the place of orders_idempotency_key_key, which a later migration drops.
-- The release before needs that one, and goes on writing while this one is built.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS orders_client_idempotency_key_idx ON orders (client, idempotency_key);
