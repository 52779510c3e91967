-- One row if the migration is applied: a client whose orders the feed would hide, or NULL.
-- Writes no row: it is there to fail where PostgreSQL is read-only, or has taken a right to write away.
WITH may_change AS (UPDATE orders SET version = version WHERE false),
     may_place AS (
         INSERT INTO orders (order_id, idempotency_key, fingerprint, customer_id, currency, items, comment, total_amount,
                             created_at, updated_at, client)
         SELECT order_id, idempotency_key, fingerprint, customer_id, currency, items, comment, total_amount,
                created_at, updated_at, client
         FROM orders
         WHERE false
     )
SELECT (SELECT client FROM orders_ahead LIMIT 1)
FROM schema_migrations
WHERE name = $1::text AND EXISTS (SELECT FROM feed_epoch)
