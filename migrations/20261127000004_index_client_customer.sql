-- migrate: outside a transaction
-- By customer.
CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_client_customer_id_order_id_idx ON orders (client, customer_id, order_id DESC);
