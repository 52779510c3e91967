-- The service reads and writes meanwhile.
ALTER TABLE orders VALIDATE CONSTRAINT orders_client_check;
