SELECT order_id, customer_id, currency, items, comment, total_amount,
       (extract(epoch FROM created_at) * 1000)::bigint, status, version
FROM orders
WHERE client = $1::text AND order_id = $2::uuid
