UPDATE orders
SET status = $3::text, version = version + 1, updated_at = to_timestamp($5::bigint / 1000.0)
WHERE order_id = $1::uuid
  AND client = $6::text
  AND version = ANY ($2::bigint[])
  AND status = ANY ($4::text[])
RETURNING order_id, customer_id, currency, items, comment, total_amount,
          (extract(epoch FROM created_at) * 1000)::bigint, status, version
