-- The whole schema. scripts/migrate.sh applies it in a transaction, so there is no BEGIN or COMMIT here.
-- The checks repeat the contract's rules and are never stricter than the service, so a bug there cannot store nonsense.
-- Text is compared byte by byte (COLLATE "C"): an index in a locale's order breaks when the system's locale data change.

CREATE TABLE schema_migrations (
    name       text        COLLATE "C" CONSTRAINT schema_migrations_pkey PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    order_id        uuid        NOT NULL, -- a UUIDv7: it sorts by time, so created_at needs no index
    client          text        COLLATE "C" NOT NULL DEFAULT '' -- that of an open service has no name
        CONSTRAINT orders_client_check CHECK (client ~ '^[a-z0-9-]*$' AND octet_length(client) <= 32),
    idempotency_key text        COLLATE "C" NOT NULL
        -- No bounded repetition: it would have 255 states, and cost each insert 50 µs.
        CONSTRAINT orders_idempotency_key_check
        CHECK (idempotency_key !~ '[^\x20-\x7e]' AND octet_length(idempotency_key) BETWEEN 1 AND 255),
    fingerprint     bytea       NOT NULL CONSTRAINT orders_fingerprint_check CHECK (octet_length(fingerprint) = 32),
    customer_id     text        COLLATE "C" NOT NULL CONSTRAINT orders_customer_id_check
        CHECK (char_length(customer_id) BETWEEN 1 AND 64 AND customer_id !~ '[\x01-\x1f\x7f]'),
    currency        text        NOT NULL CONSTRAINT orders_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
    items           jsonb       NOT NULL CONSTRAINT orders_items_check
        -- CASE, because AND promises no order and jsonb_array_length fails on a value that is not an array.
        CHECK (CASE WHEN jsonb_typeof(items) = 'array' THEN jsonb_array_length(items) BETWEEN 1 AND 100 ELSE false END),
    comment         text        CONSTRAINT orders_comment_check CHECK (char_length(comment) <= 500),
    total_amount    bigint      NOT NULL
        CONSTRAINT orders_total_amount_check CHECK (total_amount BETWEEN 0 AND 9007199254740991), -- 2^53 - 1
    created_at      timestamptz NOT NULL,
    -- Only the columns below change after the insert.
    status          text        COLLATE "C" NOT NULL DEFAULT 'created'
        CONSTRAINT orders_status_check CHECK (status IN ('created', 'confirmed', 'cancelled')),
    version         bigint      NOT NULL DEFAULT 1 CONSTRAINT orders_version_check CHECK (version >= 1),
    updated_at      timestamptz NOT NULL,
    changed_xid     xid8        NOT NULL, -- the transaction of the last change; GET /events finds changes by it

    -- Each key contains the client, so the table can be hash-partitioned by client.
    CONSTRAINT orders_pkey PRIMARY KEY (client, order_id),
    CONSTRAINT orders_client_idempotency_key_key UNIQUE (client, idempotency_key)
);
CREATE INDEX orders_client_customer_id_order_id_idx ON orders (client, customer_id, order_id);
CREATE INDEX orders_client_status_order_id_idx ON orders (client, status, order_id);
CREATE INDEX orders_client_changed_xid_order_id_idx ON orders (client, changed_xid, order_id);

-- ALWAYS: also for rows that logical replication applies, whose transaction ids are another server's.
CREATE FUNCTION stamp_change() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.changed_xid := pg_current_xact_id(); RETURN NEW; END';
CREATE TRIGGER orders_stamp_change BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION stamp_change();
ALTER TABLE orders ENABLE ALWAYS TRIGGER orders_stamp_change;

-- The clients with orders that lie ahead of this server's transactions, so that the feed would hide them. A dump causes this:
-- it loads the rows before it creates the trigger. Two index look-ups per client, whatever the size of the table.
CREATE VIEW orders_ahead AS
WITH RECURSIVE clients AS (
    SELECT min(client) AS client FROM orders
    UNION ALL
    SELECT (SELECT min(orders.client) FROM orders WHERE orders.client > clients.client) FROM clients WHERE client IS NOT NULL
)
SELECT client FROM clients
WHERE (SELECT max(changed_xid) FROM orders WHERE orders.client = clients.client) >= pg_snapshot_xmax(pg_current_snapshot());

-- The feed's epoch. A cursor contains transaction ids, so one of another epoch has expired.
-- It is a hash of a random mark, the server, the database and the table, so it changes when the orders are loaded elsewhere.
-- If the server was set back to an earlier state, the operator changes it: UPDATE feed_life SET life = DEFAULT
CREATE TABLE feed_life (life uuid DEFAULT gen_random_uuid() CONSTRAINT feed_life_pkey PRIMARY KEY);
CREATE UNIQUE INDEX feed_life_one_row_idx ON feed_life ((true));
INSERT INTO feed_life DEFAULT VALUES;
CREATE VIEW feed_epoch AS
SELECT hashtextextended(concat_ws(' ', life, system_identifier, pg_database.oid, to_regclass('public.orders')::oid), 0)
       & 281474976710655 AS epoch -- 48 bits
FROM feed_life, pg_control_system(), pg_database
WHERE datname = current_database()
LIMIT 1; -- always one row, which the planner does not know
