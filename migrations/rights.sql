-- The service may place orders and change their status. It can neither delete them nor rewrite what a replay answers with.
-- scripts/migrate.sh runs this after the migrations, each time, if there is a role orders_service.
GRANT CONNECT ON DATABASE :"DBNAME" TO orders_service;
GRANT USAGE ON SCHEMA public TO orders_service;
GRANT SELECT ON orders, schema_migrations, orders_ahead, feed_epoch TO orders_service;
GRANT INSERT (order_id, client, idempotency_key, fingerprint, customer_id, currency, items, comment, total_amount, created_at, updated_at)
    ON orders TO orders_service;
GRANT UPDATE (status, version, updated_at) ON orders TO orders_service;
