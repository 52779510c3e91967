-- The transaction that changed an order last: GET /events reads the orders by it, in the order in which they were committed.
-- No row is written: PostgreSQL keeps the default of this moment beside the table, so old orders come first, by their ids.
ALTER TABLE orders ADD COLUMN changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id();

-- By a trigger, so that no change goes without it: not one of the release before, nor one made by hand.
CREATE FUNCTION stamp_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_xid := pg_current_xact_id();
    RETURN NEW;
END
$$;
CREATE TRIGGER orders_stamp_change BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION stamp_change();

-- Is raised whenever transaction ids begin anew, as after a load into another server: then earlier cursors have expired.
-- By setval, never by nextval, which logs values ahead: after a crash the sequence would stand at a later one.
CREATE SEQUENCE orders_feed_epoch;
GRANT SELECT ON SEQUENCE orders_feed_epoch TO orders_service;
