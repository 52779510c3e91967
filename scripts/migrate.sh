#!/bin/sh
# Applies migrations/*.sql in file order, each once. POSIX sh and psql 13+ only, so it also runs in the postgres image.
#   DATABASE_URL         the owner's connection
#   PG_SERVICE_PASSWORD  password of orders_service where that role has to be created; may be unset
#   MIGRATIONS_DIR       another folder than ../migrations
#   CONFIRM=1            go on in a database that has other tables too
#   LOCK_TRIES           how often to ask for a lock on a table in use; 20 by default, which takes a minute
#   AFTER_ROLLOUT=1      also apply what the release before cannot serve with; a new database gets all at once
# A file's first line may say `-- migrate: outside a transaction` or `-- migrate: after the rollout`.
set -eu

fail() { echo "migrate: $*" >&2; exit 1; }

: "${DATABASE_URL:?migrate: DATABASE_URL is not set}"
dir=${MIGRATIONS_DIR:-$(dirname "$0")/../migrations}
lock_tries=${LOCK_TRIES:-20}
command -v psql >/dev/null || fail "psql is missing (Debian: apt-get install postgresql-client)"
[ -d "$dir" ] || fail "no folder $dir"

export PGCONNECT_TIMEOUT="${PGCONNECT_TIMEOUT:-10}"

# Of two runners the second one finds the lock taken, and tries again. It does not wait in the database: there it would
# have a snapshot, for whose end an index that is built CONCURRENTLY waits.
# Settings are of the transaction alone: behind a pooler the session may be somebody else's next.
# Without the first one, 'CREATE TABLE IF NOT EXISTS' would print a notice on every run.
begin="BEGIN;
SET LOCAL client_min_messages = warning;
DO 'BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(''order/schema_migrations'', 0)) THEN
        RAISE lock_not_available USING MESSAGE = ''another migration runs'';
    END IF;
END';"

# --no-password: a wrong password is an error, not a prompt that waits for good.
run_psql() { psql "$DATABASE_URL" --no-psqlrc --no-password --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 "$@"; }

# One answer a line, the names of tables last: what stands in them is up to others.
looked=$(run_psql <<'SQL'
\echo :DBNAME on :HOST port :PORT
SHOW server_encoding;
SELECT CASE
    WHEN to_regclass('orders') IS NULL AND to_regclass('schema_migrations') IS NULL THEN 'new'
    WHEN (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('schema_migrations')
             AND attname IN ('name', 'applied_at') AND NOT attisdropped) = 2 THEN 'ours'
    ELSE 'taken' END;
SELECT concat_ws(', ', VARIADIC (array_agg(format('%I.%I', nspname, relname) ORDER BY nspname, relname))[1:3])
       || CASE WHEN count(*) > 3 THEN format(' and %s more', count(*) - 3) ELSE '' END
  FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
 WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
   AND relname NOT IN ('orders', 'schema_migrations')
   AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e');
SQL
) || fail "could not look at the database; nothing was written"
{ read -r database; read -r encoding; read -r state; read -r others || true; } <<TEXT
$looked
TEXT

echo "migrate: database $database"
[ "$encoding" = UTF8 ] || fail "the encoding of $database is $encoding, and orders need UTF8: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
[ "$state" != taken ] || fail "$database has a table orders or schema_migrations that is not this service's; use another database"
# Asked once: where our tables are, somebody has said yes before.
if [ "$state" = new ] && [ -n "$others" ] && [ "${CONFIRM:-}" != 1 ]; then
    fail "$database has other tables: $others; set CONFIRM=1 to put the orders beside them. Nothing was written"
fi

prepare() {
    run_psql --set begin="$begin" --set VERBOSITY=verbose <<'SQL' 2>&1
:begin
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text        COLLATE "C" CONSTRAINT schema_migrations_pkey PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orders_service') AS role_is_missing \gset
\if :role_is_missing
    -- The shell that psql starts has the name of the variable on its command line, not the password.
    \set password `printf %s "${PG_SERVICE_PASSWORD-}"`
    SELECT set_config('order.password', :'password', true) \g /dev/null
    DO $$
    DECLARE
        password text := nullif(current_setting('order.password'), '');
    BEGIN
        EXECUTE 'CREATE ROLE orders_service LOGIN' || coalesce(' PASSWORD ' || quote_literal(password), '');
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        -- Roles are the server's and the lock is the database's: another database's migration was there first.
        NULL;
    END
    $$;
    SELECT :'password' <> '' AS has_password \gset
    \if :has_password
        \echo migrate: role orders_service was missing, and was created
    \else
        \echo migrate: role orders_service was missing, and was created without a password
    \endif
\endif
COMMIT;
SQL
}

# One session and one transaction per file: it is applied and recorded, or neither.
# A statement that waits for a lock on a table makes all later ones wait behind it, the service's too.
# So it gives up after a second, in which the service's own, which wait for 60 % of pg_deadline_ms, do not.
apply() {
    case $(head -n 1 "$2") in *"outside a transaction"*) apply_outside "$@"; return ;; esac
    run_psql --set begin="$begin" --set name="$1" --set file="$2" --set VERBOSITY=verbose <<'SQL' 2>&1
:begin
SELECT NOT EXISTS (SELECT FROM schema_migrations WHERE name = :'name') AS pending \gset
\if :pending
    SET LOCAL lock_timeout = '1s';
    \i :file
    INSERT INTO schema_migrations (name) VALUES (:'name');
\endif
COMMIT;
\if :pending
    \echo applied
\endif
SQL
}
# An index that is built CONCURRENTLY cannot be in a transaction. One that an earlier run left half built is dropped first.
apply_outside() {
    run_psql --set name="$1" --set file="$2" --set VERBOSITY=verbose <<'SQL' 2>&1
SET client_min_messages = warning;
SELECT pg_try_advisory_lock(hashtextextended('order/schema_migrations', 0)) AS locked \gset
\if :locked
    SELECT NOT EXISTS (SELECT FROM schema_migrations WHERE name = :'name') AS pending \gset
    \if :pending
        SELECT format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass)
          FROM pg_index WHERE indrelid = 'orders'::regclass AND NOT indisvalid \gexec
        \i :file
        INSERT INTO schema_migrations (name) VALUES (:'name');
        \echo applied
    \endif
\else
    DO 'BEGIN RAISE lock_not_available USING MESSAGE = ''another migration runs''; END';
\endif
SQL
}
show() { printf '%s\n' "$1" | sed '/^LOCATION: /d; /^applied$/d; /^$/d' >&2; }

is_applied() { [ "$(run_psql --set name="$1" <<'SQL'
SELECT count(*) FROM schema_migrations WHERE name = :'name';
SQL
)" = 1 ]; }

# "$@" until no lock is in its way, or often enough; its second word is what it is about.
patiently() {
    tries=1
    until said=$("$@"); do
        case $said in
            *"another migration runs"*) busy="another run of this" ;;
            *55P03*) busy="a table in use" ;; # lock_not_available
            *) show "$said"; return 1 ;;
        esac
        [ "$tries" -lt "$lock_tries" ] ||
            fail "$2 got no lock in $tries tries of a second; end what uses the table (pg_stat_activity), then run this again. Nothing of it was kept"
        [ "$tries" -gt 1 ] || echo "migrate: $2 waits for $busy, and tries again"
        tries=$((tries + 1))
        sleep 2
    done
    show "$said"
}

patiently prepare schema_migrations || fail "could not create schema_migrations and the role orders_service"
applied=0 known=0 waiting=0
for file in "$dir"/*.sql; do
    [ -f "$file" ] || fail "no *.sql in $dir"
    name=$(basename "$file" .sql)
    case $(head -n 1 "$file") in
        *"after the rollout"*)
            if [ "$state" != new ] && [ "${AFTER_ROLLOUT:-}" != 1 ] && ! is_applied "$name"; then
                echo "migrate: $name waits; set AFTER_ROLLOUT=1 once nothing of the release before runs"
                waiting=$((waiting + 1))
                continue
            fi
            ;;
    esac
    patiently apply "$name" "$file" || fail "$name failed; nothing of it was kept"
    case $said in
        *applied) echo "migrate: applied $name"; applied=$((applied + 1)) ;;
        *) known=$((known + 1)) ;;
    esac
done
# Orders that were dumped and loaded into another server have transaction ids of the old one's life, which may lie ahead
# here. The feed would hide them until this server gets there, so they are stamped anew.
stamp_loaded() {
    run_psql --set begin="$begin" --set VERBOSITY=verbose <<'SQL' 2>&1
SELECT to_regclass('orders_client_changed_xid_order_id_idx') IS NOT NULL AS has_feed \gset
\if :has_feed
    :begin
    SET LOCAL lock_timeout = '1s';
    -- From client to client along the index, not through the whole table.
    WITH RECURSIVE clients AS (
        (SELECT client FROM orders ORDER BY client LIMIT 1)
        UNION ALL
        SELECT (SELECT orders.client FROM orders WHERE orders.client > clients.client ORDER BY orders.client LIMIT 1)
          FROM clients WHERE clients.client IS NOT NULL
    )
    SELECT count(*) > 0 AS is_loaded
      FROM clients JOIN LATERAL (
          SELECT FROM orders
           WHERE orders.client = clients.client AND changed_xid >= pg_snapshot_xmax(pg_current_snapshot())
           LIMIT 1
      ) AS ahead ON true \gset
    \if :is_loaded
        WITH stamped AS (
            UPDATE orders SET version = version
             WHERE changed_xid >= pg_snapshot_xmax(pg_current_snapshot())
            RETURNING 1
        )
        SELECT format('migrate: %s orders have transaction ids of another server, and were stamped anew', count(*)) AS said
          FROM stamped \gset
        \echo :said
    \endif
    COMMIT;
\endif
SQL
}
patiently stamp_loaded orders || fail "could not look for orders of another server"

[ "$applied" -gt 0 ] || [ "$waiting" -gt 0 ] || echo "migrate: nothing to do, all $known are applied"
