-- In a transaction of its own: its lock lets the service read and write meanwhile.
-- Where the constraint is valid already, since an earlier text of the migration before read the table itself, this does nothing.
ALTER TABLE orders VALIDATE CONSTRAINT orders_idempotency_key_check;
