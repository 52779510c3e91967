-- Always returns one row: it also carries the cursor of the next page.
-- A page reads a bounded number of rows. The first filter that is given, in the order of the branches, chooses the index. If
-- a customer and a status are given, the status is applied to at most $8 of the customer's orders, and the page may be empty.
-- The planner must not take another index for this: it could then throw away any number of rows before it finds enough.
-- So a branch asks for a range instead of equality, in the order of all columns of its index; the range includes its end,
-- which gives better estimates than one that does not; and a limit that the planner does not know makes it read in order.
WITH found AS MATERIALIZED (
    SELECT *, row_number() OVER newest_first AS place, sum(bytes) OVER newest_first - bytes AS bytes_before
    FROM (
        SELECT *, octet_length(items::text) + coalesce(octet_length(comment), 0) AS bytes
        FROM (
            SELECT *
            FROM (SELECT * FROM orders WHERE client = $7::text AND idempotency_key = $3::text LIMIT 1) AS of_key
            WHERE ($1::text IS NULL OR customer_id = $1::text)
              AND ($2::text IS NULL OR status = $2::text)
              AND order_id <= $4::uuid
            UNION ALL (
                SELECT *
                FROM (
                    SELECT *
                    FROM orders
                    WHERE $3::text IS NULL
                      AND client = $7::text AND customer_id >= $1::text AND (customer_id, order_id) <= ($1::text, $4::uuid)
                    ORDER BY customer_id DESC, order_id DESC
                    LIMIT (SELECT $8::bigint)
                ) AS of_customer
                WHERE $2::text IS NULL OR status = $2::text
                ORDER BY customer_id DESC, order_id DESC
                -- One more than requested shows whether there is a next page.
                LIMIT (SELECT $5::bigint + 1)
            )
            UNION ALL (
                SELECT *
                FROM orders
                WHERE $3::text IS NULL AND $1::text IS NULL
                  AND client = $7::text AND status >= $2::text AND (status, order_id) <= ($2::text, $4::uuid)
                ORDER BY status DESC, order_id DESC
                LIMIT (SELECT $5::bigint + 1)
            )
            UNION ALL (
                SELECT *
                FROM orders
                WHERE $3::text IS NULL AND $1::text IS NULL AND $2::text IS NULL
                  AND client = $7::text AND order_id <= $4::uuid
                ORDER BY order_id DESC
                LIMIT (SELECT $5::bigint + 1)
            )
        ) AS matching
    ) AS measured
    WINDOW newest_first AS (ORDER BY order_id DESC ROWS UNBOUNDED PRECEDING)
), page AS MATERIALIZED (
    SELECT * FROM found WHERE place <= $5::bigint AND bytes_before < $6::bigint
)
SELECT page.order_id, page.customer_id, page.currency, page.items, page.comment, page.total_amount,
       (extract(epoch FROM page.created_at) * 1000)::bigint, page.status, page.version, next.cursor
FROM (
    SELECT CASE
        WHEN (SELECT count(*) FROM found) > (SELECT count(*) FROM page)
            THEN (SELECT order_id FROM page ORDER BY order_id LIMIT 1)
        WHEN $1::text IS NOT NULL AND $2::text IS NOT NULL AND $3::text IS NULL
            -- The last of the rows that the second filter was applied to, if they are as many.
            THEN (
                SELECT order_id
                FROM orders
                WHERE client = $7::text AND customer_id >= $1::text AND (customer_id, order_id) <= ($1::text, $4::uuid)
                ORDER BY customer_id DESC, order_id DESC
                OFFSET (SELECT $8::bigint - 1)
                LIMIT 1
            )
    END AS cursor
) AS next
LEFT JOIN page ON true
ORDER BY page.order_id DESC
