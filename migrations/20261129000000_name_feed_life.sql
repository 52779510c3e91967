-- The feed's epoch: its cursors hold transaction ids, so a cursor of another epoch has expired.
-- It follows from which table on which server this is, so a load into another server or database changes it by itself.
-- After the server was set back to an earlier state, the operator changes it: UPDATE feed_life SET life = DEFAULT
CREATE TABLE feed_life (
    is_only boolean NOT NULL DEFAULT true,
    life    uuid    NOT NULL DEFAULT gen_random_uuid(),
    CONSTRAINT feed_life_pkey PRIMARY KEY (is_only),
    CONSTRAINT feed_life_is_only_check CHECK (is_only)
);
INSERT INTO feed_life DEFAULT VALUES;
CREATE VIEW feed_epoch AS
SELECT hashtextextended(concat_ws(' ', life, system_identifier, pg_database.oid, to_regclass('public.orders')::oid), 0)
       & 281474976710655 AS epoch -- 48 bits
FROM feed_life, pg_control_system(), pg_database
WHERE is_only AND datname = current_database();
GRANT SELECT ON feed_epoch TO orders_service;
DROP SEQUENCE orders_feed_epoch;
