SELECT order_id, customer_id, currency, items, comment, total_amount,
       (extract(epoch FROM created_at) * 1000)::bigint, status, version,
       -- Whether more were found than are given.
       found_count > count(*) OVER ()
FROM (
    SELECT *, count(*) OVER () AS found_count, row_number() OVER newest_first AS place,
           sum(bytes) OVER newest_first - bytes AS bytes_before
    FROM (
        SELECT *, octet_length(items::text) + coalesce(octet_length(comment), 0) AS bytes
        FROM orders
        -- Planned with its values each time, so a filter that is not given costs nothing.
        WHERE client = $7::text
          AND ($1::text IS NULL OR customer_id = $1::text)
          AND ($2::text IS NULL OR status = $2::text)
          AND ($3::text IS NULL OR idempotency_key = $3::text)
          AND ($4::uuid IS NULL OR order_id < $4::uuid)
        ORDER BY order_id DESC
        -- One more than asked for tells whether there is a next page.
        LIMIT $5::bigint + 1
    ) AS found
    WINDOW newest_first AS (ORDER BY order_id DESC ROWS UNBOUNDED PRECEDING)
) AS measured
WHERE place <= $5::bigint AND bytes_before < $6::bigint
ORDER BY order_id DESC
