-- The column's own index again, by bytes: an index by a locale's order becomes corrupt when the system's locale data change.
-- It is built before the column changes, which then takes it over: rebuilt by that, it would lock the table against everyone.
-- Inserts wait for it, 2.4 s with a million rows; docs/operations.md tells how to build it beforehand, without that.
CREATE INDEX IF NOT EXISTS orders_customer_id_order_id_bytes_idx ON orders (customer_id COLLATE "C", order_id DESC);
