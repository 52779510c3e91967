-- The service reads and writes meanwhile.
ALTER TABLE orders
    VALIDATE CONSTRAINT orders_customer_id_check,
    VALIDATE CONSTRAINT orders_status_check;
-- A column that changes loses its statistics, and a list without them may take the wrong index.
ANALYZE orders (customer_id, status);
