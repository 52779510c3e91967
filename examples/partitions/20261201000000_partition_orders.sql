-- An example, and not part of the schema: orders in 16 partitions by client, each with its own table and indexes.
-- To use it, copy it into migrations/, list it in migrations/kustomization.yaml, and run scripts/migrate.sh.
-- docs/scaling.md shows what it gains. Nothing in the service changes: every statement names the client.
--
-- In a database with orders it copies all of them while the table is locked, so stop the service before.
-- It needs as much free disk as the orders take. Consumers of the feed get 410 once and read it from the beginning, as the
-- table is another one. All orders of a client stay in one partition, so it gains nothing in an open service.

LOCK TABLE orders IN ACCESS EXCLUSIVE MODE;
-- With the checks and their names, without the trigger: the orders keep their change ids.
CREATE TABLE orders_by_client (LIKE orders INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY HASH (client);
DO $$BEGIN
    -- A partition cannot be split without copying it.
    FOR remainder IN 0..15 LOOP
        EXECUTE format('CREATE TABLE orders_%s PARTITION OF orders_by_client FOR VALUES WITH (MODULUS 16, REMAINDER %s)', remainder, remainder);
    END LOOP;
END$$;
INSERT INTO orders_by_client SELECT * FROM orders;

DROP VIEW orders_ahead;
DROP TABLE orders;
ALTER TABLE orders_by_client RENAME TO orders;

-- What follows is as in the baseline. An order id is unique within its client, and so is a key.
ALTER TABLE orders ADD CONSTRAINT orders_pkey PRIMARY KEY (client, order_id);
ALTER TABLE orders ADD CONSTRAINT orders_client_idempotency_key_key UNIQUE (client, idempotency_key);
CREATE INDEX orders_client_customer_id_order_id_idx ON orders (client, customer_id, order_id);
CREATE INDEX orders_client_status_order_id_idx ON orders (client, status, order_id);
CREATE INDEX orders_client_changed_xid_order_id_idx ON orders (client, changed_xid, order_id);

-- Each partition gets both: the trigger, and that it fires ALWAYS.
CREATE TRIGGER orders_stamp_change BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION stamp_change();
ALTER TABLE orders ENABLE ALWAYS TRIGGER orders_stamp_change;

-- As in the baseline, but each partition's clients by its own index: over all of them, each look-up would search every index.
DO $$BEGIN
    EXECUTE 'CREATE VIEW orders_ahead AS ' || string_agg(format('
        (WITH RECURSIVE clients AS (
            SELECT min(client) AS client FROM %1$I
            UNION ALL
            SELECT (SELECT min(part.client) FROM %1$I AS part WHERE part.client > clients.client) FROM clients WHERE client IS NOT NULL
        )
        SELECT client FROM clients
        WHERE (SELECT max(changed_xid) FROM %1$I AS part WHERE part.client = clients.client) >= pg_snapshot_xmax(pg_current_snapshot()))
        ', 'orders_' || remainder), ' UNION ALL ')
    FROM generate_series(0, 15) AS remainder;
END$$;
-- scripts/migrate.sh runs rights.sql after it, which gives the service its rights again.
