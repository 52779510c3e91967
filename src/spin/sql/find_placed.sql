SELECT orders.order_id
FROM unnest($1::text[], $2::text[]::uuid[]) AS own(client, order_id)
JOIN orders ON orders.client = own.client COLLATE "C" AND orders.order_id = own.order_id
