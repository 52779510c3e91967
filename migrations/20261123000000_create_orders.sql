-- Applied by scripts/migrate.sh, which opens the transaction: no BEGIN or COMMIT here.
-- The checks repeat the contract's rules, and are never stricter than the service, so that a bug there cannot store nonsense.

CREATE TABLE orders (
    order_id        uuid        NOT NULL,
    -- Compared byte by byte, whatever the locale of the database.
    idempotency_key text        COLLATE "C" NOT NULL,
    fingerprint     bytea       NOT NULL,
    customer_id     text        NOT NULL,
    currency        text        NOT NULL,
    items           jsonb       NOT NULL,
    comment         text,
    total_amount    bigint      NOT NULL,
    created_at      timestamptz NOT NULL,
    status          text        NOT NULL DEFAULT 'created',
    version         bigint      NOT NULL DEFAULT 1,
    updated_at      timestamptz NOT NULL,

    CONSTRAINT orders_pkey PRIMARY KEY (order_id),
    CONSTRAINT orders_idempotency_key_key UNIQUE (idempotency_key),
    CONSTRAINT orders_idempotency_key_check CHECK (idempotency_key ~ '^[\x20-\x7e]{1,255}$'),
    CONSTRAINT orders_fingerprint_check CHECK (octet_length(fingerprint) = 32),
    CONSTRAINT orders_customer_id_check CHECK (char_length(customer_id) BETWEEN 1 AND 64 AND customer_id !~ '[\x01-\x1f\x7f]'),
    CONSTRAINT orders_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
    -- CASE, because AND promises no order and jsonb_array_length fails on what is no array.
    CONSTRAINT orders_items_check CHECK (
        CASE WHEN jsonb_typeof(items) = 'array' THEN jsonb_array_length(items) BETWEEN 1 AND 100 ELSE false END),
    CONSTRAINT orders_comment_check CHECK (char_length(comment) <= 500),
    -- 2^53 - 1: exact in every JSON reader.
    CONSTRAINT orders_total_amount_check CHECK (total_amount BETWEEN 0 AND 9007199254740991),
    CONSTRAINT orders_status_check CHECK (status IN ('created', 'confirmed', 'cancelled')),
    CONSTRAINT orders_version_check CHECK (version >= 1)
);

-- The list is newest first by order_id: a UUIDv7 sorts by time, so created_at needs no index.
CREATE INDEX orders_customer_id_order_id_idx ON orders (customer_id, order_id DESC);
CREATE INDEX orders_status_order_id_idx ON orders (status, order_id DESC);

-- The service may place an order and move its status. It cannot rewrite what a replay answers with, nor delete.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
         WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
           AND relname NOT IN ('orders', 'schema_migrations')
           AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
    ) THEN
        -- Whoever uses them may be there by PUBLIC's rights.
        RAISE WARNING 'the database has other tables, so PUBLIC keeps its rights on it and on schema public';
    ELSE
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO orders_service', current_database());
END
$$;
GRANT USAGE ON SCHEMA public TO orders_service;
GRANT SELECT ON orders, schema_migrations TO orders_service;
GRANT INSERT (order_id, idempotency_key, fingerprint, customer_id, currency, items, comment, total_amount, created_at, updated_at)
    ON orders TO orders_service;
GRANT UPDATE (status, version, updated_at) ON orders TO orders_service;
