INSERT INTO orders (order_id, idempotency_key, fingerprint, customer_id, currency, items, comment, total_amount,
                    created_at, updated_at, client)
VALUES ($1::uuid, $2::text, $3::bytea, $4::text, $5::text, $6::jsonb, $7::text, $8::bigint,
        to_timestamp($9::bigint / 1000.0), to_timestamp($9::bigint / 1000.0), $10::text)
ON CONFLICT (client, idempotency_key) DO NOTHING
