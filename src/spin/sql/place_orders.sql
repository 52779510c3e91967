-- Inserts several orders. A key that another transaction holds must not hold up the others for long, so the lock timeout is
-- at most 100 ms, for this transaction only. 0 would mean no timeout, as it is if a pooler drops the session settings.
-- Sorted, so that two batches cannot deadlock on each other's keys.
WITH bound AS MATERIALIZED (
    SELECT set_config('lock_timeout', extract(milliseconds FROM least(interval '100 ms',
                      nullif(current_setting('lock_timeout')::interval, interval '0')))::int::text, true)
)
INSERT INTO orders (order_id, idempotency_key, fingerprint, customer_id, currency, items, comment, total_amount,
                    created_at, updated_at, client)
SELECT order_id, idempotency_key, fingerprint, customer_id, currency, items, comment, total_amount,
       to_timestamp(created_at_ms / 1000.0), to_timestamp(created_at_ms / 1000.0), client
FROM bound,
     jsonb_to_recordset($1::jsonb) AS new(order_id uuid, idempotency_key text, fingerprint bytea, customer_id text,
                                          currency text, items jsonb, comment text, total_amount bigint,
                                          created_at_ms bigint, client text)
ORDER BY client COLLATE "C", idempotency_key COLLATE "C"
ON CONFLICT (client, idempotency_key) DO NOTHING
