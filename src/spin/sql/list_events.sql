-- A page of a sweep ($2 done, $3 its own snapshot once it has begun, $4 and $5 the position). Always returns a row: it also
-- carries the feed's epoch and snapshot. What became visible since `done` is read as ranges of one index, in order: a range for
-- each transaction that was open then, and from done's xmax on the gaps between those that are open now. So neither what an
-- open transaction has written nor how long it stays open costs anything.
SELECT feed.epoch, feed.now::text AS now,
       page.found_count, (extract(epoch FROM page.updated_at) * 1000)::bigint, page.changed_xid::text,
       page.order_id, page.customer_id, page.currency, page.items, page.comment, page.total_amount,
       (extract(epoch FROM page.created_at) * 1000)::bigint, page.status, page.version
FROM (
    -- A standby's snapshot does not name open transactions, so a standby fails here, as it does for a write. The epoch is read as
    -- a value, or PostgreSQL would guess many rows of a table that it has not counted.
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_current_xact_id()::text::bigint ELSE (SELECT epoch FROM feed_epoch) END AS epoch,
           now, coalesce($3::text::pg_snapshot, now) AS reading,
           greatest(pg_snapshot_xmax($2::text::pg_snapshot), $4::text::xid8) AS first,
           '00000000-0000-0000-0000-000000000000'::uuid AS low, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid AS high
    FROM pg_current_snapshot() AS now
) AS feed
LEFT JOIN LATERAL (
    SELECT *, count(*) OVER () AS found_count, row_number() OVER in_order AS place, sum(bytes) OVER in_order - bytes AS bytes_before
    FROM (
        SELECT change.*, octet_length(items::text) + coalesce(octet_length(comment), 0) AS bytes
        FROM (
            SELECT from_xid, to_xid, to_id,
                   CASE from_xid WHEN $4::text::xid8 THEN $5::uuid ELSE from_id END AS from_id
            FROM (
                SELECT open AS from_xid, low AS from_id, open AS to_xid, high AS to_id
                FROM pg_snapshot_xip($2::text::pg_snapshot) AS open
                WHERE open >= $4::text::xid8 AND pg_visible_in_snapshot(open, feed.reading)
                UNION ALL
                SELECT edge, id, lead(edge, 1, pg_snapshot_xmax(feed.reading)) OVER (ORDER BY edge), low
                FROM (
                    SELECT feed.first AS edge, low AS id
                    UNION ALL
                    SELECT open, high FROM pg_snapshot_xip(feed.reading) AS open WHERE open >= feed.first
                ) AS edges
                UNION ALL
                -- Ahead of the server: loaded. Only in a sweep from the beginning, since no consumer can have seen them under these ids.
                SELECT greatest(pg_snapshot_xmax(feed.now), $4::text::xid8), low, '18446744073709551615', high
                WHERE $2::text = '1:1:'
            ) AS ranges
            ORDER BY from_xid
        ) AS range
        CROSS JOIN LATERAL (
            SELECT *
            FROM orders
            WHERE client = $1::text
              AND (changed_xid, order_id) > (range.from_xid, range.from_id)
              AND (changed_xid, order_id) < (range.to_xid, range.to_id)
            ORDER BY changed_xid, order_id
            LIMIT $6::bigint + 1
        ) AS change
        ORDER BY range.from_xid, changed_xid, order_id
        -- One more than requested shows whether the sweep continues.
        LIMIT $6::bigint + 1
    ) AS found
    WINDOW in_order AS (ORDER BY changed_xid, order_id ROWS UNBOUNDED PRECEDING)
) AS page ON place <= $6::bigint AND bytes_before < $7::bigint
ORDER BY page.changed_xid, page.order_id
