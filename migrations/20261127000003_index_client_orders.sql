-- migrate: outside a transaction
-- An order is found, and listed, among its client's. This takes the place of the primary key by the order's id alone.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS orders_client_order_id_idx ON orders (client, order_id);
