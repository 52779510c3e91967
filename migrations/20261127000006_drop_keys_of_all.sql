-- migrate: after the rollout
-- A key was everybody's. The release before names that constraint in its insert, so no pod of it may run any more;
-- with it, two clients cannot use the same key. No row and no index is read or written.
ALTER TABLE orders
    DROP CONSTRAINT orders_idempotency_key_key,
    ADD CONSTRAINT orders_client_idempotency_key_key UNIQUE USING INDEX orders_client_idempotency_key_idx,
    DROP CONSTRAINT orders_pkey;
ALTER TABLE orders ADD CONSTRAINT orders_pkey PRIMARY KEY USING INDEX orders_client_order_id_idx;
DROP INDEX orders_customer_id_order_id_idx, orders_status_order_id_idx;
