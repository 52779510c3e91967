-- migrate: outside a transaction
-- By status.
CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_client_status_order_id_idx ON orders (client, status, order_id DESC);
