-- Changes no row: it is there to fail where PostgreSQL is read-only, or has taken the right to write away.
WITH may_write AS (UPDATE orders SET version = version WHERE false)
SELECT 1 FROM schema_migrations WHERE name = $1::text
