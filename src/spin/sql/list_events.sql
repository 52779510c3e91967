-- One row at least, since the feed itself says something too. Only changes are shown that none can come before any more:
-- a transaction that is still running may have an earlier id than one that has committed.
SELECT page.order_id, page.customer_id, page.currency, page.items, page.comment, page.total_amount,
       (extract(epoch FROM page.created_at) * 1000)::bigint, page.status, page.version,
       (extract(epoch FROM page.updated_at) * 1000)::bigint, page.changed_xid::text,
       feed.epoch, coalesce($5::bigint <> feed.epoch, false) OR $2::text::xid8 >= feed.xmax, held_back.ms
FROM (
    SELECT epoch, pg_snapshot_xmin(snapshot) AS xmin, pg_snapshot_xmax(snapshot) AS xmax
    FROM feed_epoch, pg_current_snapshot() AS snapshot
) AS feed
LEFT JOIN LATERAL (
    -- How long the first change that is not shown yet has waited.
    SELECT (extract(epoch FROM now() - updated_at) * 1000)::bigint AS ms
    FROM orders
    WHERE client = $1::text AND changed_xid >= feed.xmin
    ORDER BY changed_xid, order_id
    LIMIT 1
) AS held_back ON true
LEFT JOIN LATERAL (
    SELECT *, sum(bytes) OVER oldest_first - bytes AS bytes_before
    FROM (
        SELECT *, octet_length(items::text) + coalesce(octet_length(comment), 0) AS bytes
        FROM orders
        WHERE client = $1::text
          AND changed_xid < feed.xmin
          AND (changed_xid, order_id) > ($2::text::xid8, $3::uuid)
        ORDER BY changed_xid, order_id
        LIMIT $4::bigint
    ) AS found
    WINDOW oldest_first AS (ORDER BY changed_xid, order_id ROWS UNBOUNDED PRECEDING)
) AS page ON page.bytes_before < $6::bigint
ORDER BY page.changed_xid, page.order_id
