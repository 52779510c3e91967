-- Whose order it is. Those that are there already are the open service's, whose client has no name.
-- No row is written: PostgreSQL keeps the default beside the table.
ALTER TABLE orders
    ADD COLUMN client text COLLATE "C" NOT NULL DEFAULT '',
    ADD CONSTRAINT orders_client_check CHECK (client ~ '^[a-z0-9-]*$' AND octet_length(client) <= 32) NOT VALID;
GRANT INSERT (client) ON orders TO orders_service;
