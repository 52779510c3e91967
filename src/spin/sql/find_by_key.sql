SELECT order_id, customer_id, currency, items, comment, total_amount,
       (extract(epoch FROM created_at) * 1000)::bigint, status, version, fingerprint
FROM orders
WHERE idempotency_key = $1::text
