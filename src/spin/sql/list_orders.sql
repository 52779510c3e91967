SELECT order_id, customer_id, currency, items, comment, total_amount,
       (extract(epoch FROM created_at) * 1000)::bigint, status, version
FROM orders
-- Planned with its values each time, so a filter that is not given costs nothing.
WHERE ($1::text IS NULL OR customer_id = $1::text)
  AND ($2::text IS NULL OR status = $2::text)
  AND ($3::text IS NULL OR idempotency_key = $3::text)
  AND ($4::uuid IS NULL OR order_id < $4::uuid)
ORDER BY order_id DESC
LIMIT $5::bigint
