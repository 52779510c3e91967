-- migrate: outside a transaction
-- The feed is read by it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_client_changed_xid_order_id_idx ON orders (client, changed_xid, order_id);
