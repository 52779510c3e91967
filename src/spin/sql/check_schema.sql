-- One row if the migration is applied: the settings that risk orders, and a client whose orders the feed would hide; else NULL.
-- Writes no row: it fails if PostgreSQL is read-only or a right to write was revoked.
WITH may_change AS (UPDATE orders SET version = version WHERE false),
     may_place AS (
         INSERT INTO orders (order_id, idempotency_key, fingerprint, customer_id, currency, items, comment, total_amount,
                             created_at, updated_at, client)
         SELECT order_id, idempotency_key, fingerprint, customer_id, currency, items, comment, total_amount,
                created_at, updated_at, client
         FROM orders
         WHERE false
     )
SELECT (
    -- With one of these off, a crash of the server may lose what it has acknowledged.
    SELECT string_agg(name || ' = off', ', ')
    FROM unnest(ARRAY['synchronous_commit', 'fsync', 'full_page_writes']) AS name
    WHERE current_setting(name) = 'off'
), (SELECT client FROM orders_ahead LIMIT 1)
FROM schema_migrations
WHERE name = $1::text AND EXISTS (SELECT FROM feed_epoch)
