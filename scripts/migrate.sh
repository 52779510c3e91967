#!/bin/sh
# Applies migrations/<timestamp>_*.sql in file order, each once, then rights.sql. POSIX sh and psql 13+, as in the postgres image.
#   DATABASE_URL         the owner's connection, to PostgreSQL itself and not to a pooler
#   PG_SERVICE_PASSWORD  password of orders_service, if that role has to be created; may be unset
#   MIGRATIONS_DIR       another folder than ../migrations
#   CONFIRM=1            continue in a database that also has other tables
#   LOCK_TRIES           attempts to lock a table in use; 20 by default, about a minute
set -eu
fail() { echo "migrate: $*" >&2; exit 1; }

: "${DATABASE_URL:?migrate: DATABASE_URL is not set}"
command -v psql >/dev/null || fail "psql is missing (Debian: apt-get install postgresql-client)"
cd "${MIGRATIONS_DIR:-$(dirname "$0")/../migrations}"
export PGCONNECT_TIMEOUT="${PGCONNECT_TIMEOUT:-10}"
# They replace the role's own limits and search_path. A pooler refuses or drops them, which order.is_direct reveals.
export PGOPTIONS="${PGOPTIONS-} -c search_path=public -c client_min_messages=warning -c statement_timeout=0 -c lock_timeout=0 \
-c idle_in_transaction_session_timeout=0 -c order.is_direct=on -c order.confirm=${CONFIRM:-0}"

# One session, whose lock excludes other runs. It does not wait for that lock: a waiting statement has a snapshot, and a
# concurrent index build in another run would wait for that snapshot to end.
script() {
    cat <<'SQL'
\echo migrate: database :DBNAME on :HOST port :PORT
-- The shell that psql starts has the name of the variable on its command line, not the password.
\set password `printf %s "${PG_SERVICE_PASSWORD-}"`
SELECT set_config('order.password', :'password', false), set_config('order.known', '', false) \g /dev/null
SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout' \g /dev/null
DO $$
DECLARE
    is_new boolean := to_regclass('feed_life') IS NULL;
    others text := (
        SELECT string_agg(format('%I.%I', nspname, relname), ', ' ORDER BY nspname, relname)
          FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
         WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
           AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'));
BEGIN
    IF current_setting('order.is_direct', true) IS NULL THEN
        RAISE 'DATABASE_URL goes through a pooler or has its own options; it must name PostgreSQL itself';
    ELSIF getdatabaseencoding() <> 'UTF8' THEN
        -- LATIN1 cannot hold every order, and SQL_ASCII counts bytes as characters.
        RAISE 'the encoding is %, and orders need UTF8: CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0', getdatabaseencoding();
    ELSIF NOT pg_try_advisory_lock(hashtextextended('order/schema_migrations', 0)) THEN
        RAISE lock_not_available USING MESSAGE = 'another migration runs';
    ELSIF NOT is_new THEN
        PERFORM set_config('order.known', string_agg(name, ' '), false) FROM schema_migrations;
    ELSIF to_regclass('orders') IS NOT NULL OR to_regclass('schema_migrations') IS NOT NULL THEN
        RAISE 'there is a table orders or schema_migrations of another program or of 0.1: use a new database. CHANGELOG.md shows how to take orders of 0.1 along';
    ELSIF others IS NOT NULL AND current_setting('order.confirm') <> '1' THEN
        RAISE 'the database has other tables: %; set CONFIRM=1 to put the orders beside them', left(others, 200);
    ELSIF others IS NOT NULL THEN
        RAISE WARNING 'the database has other tables, so PUBLIC keeps its rights on it and on schema public';
    ELSE
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orders_service') THEN
        BEGIN
            EXECUTE format('CREATE ROLE orders_service LOGIN PASSWORD %L', nullif(current_setting('order.password'), ''));
            RAISE WARNING 'role orders_service was missing, and was created with the password that PG_SERVICE_PASSWORD has, if any';
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL; -- another database's run created it first
            WHEN insufficient_privilege THEN
                RAISE WARNING '% may not create the role orders_service: set pg_user to %, or have it created and run this again', user, user;
        END;
    END IF;
END
$$;
SQL
    # A statement that waits for a table lock blocks all later ones. So a migration gives up after a second: the service's own
    # statements wait for 60 % of pg_deadline_ms. A file that begins with `-- migrate: outside a transaction` may build an index
    # CONCURRENTLY, which blocks no statement.
    for file in [0-9]*.sql; do
        name=${file%.sql} begin='BEGIN;' commit='COMMIT;' lock_timeout=1s
        case $(head -n 1 "$file") in *"outside a transaction"*) begin='' commit='' lock_timeout=0 ;; esac
        cat <<SQL
SELECT strpos(current_setting('order.known'), '$name') = 0 AS is_pending \\gset
\\if :is_pending
    SET lock_timeout = '$lock_timeout';
    $begin
    \\i $file
    INSERT INTO schema_migrations (name) VALUES ('$name');
    $commit
    \\echo migrate: applied $name
\\endif
SQL
    done
    cat <<'SQL'
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orders_service') AS has_role \gset
\if :has_role
    \i rights.sql
\endif
SET lock_timeout = '1s';
WITH stamped AS (
    UPDATE orders SET version = version
     WHERE client IN (SELECT client FROM orders_ahead) AND changed_xid >= pg_snapshot_xmax(pg_current_snapshot()) RETURNING 1
)
SELECT 'migrate: ' || count(*) || ' orders had transaction ids of another server, and were stamped again'
  FROM stamped HAVING count(*) > 0;
SELECT 'migrate: nothing to do, all ' || count(*) || ' are applied' FROM schema_migrations
HAVING string_agg(name, ' ') = current_setting('order.known');
SQL
}

tidy() { echo "$said" | sed '/^CONTEXT: /d; /^LOCATION: /d; s/^WARNING:  01000: /migrate: /' >&2; }
exec 3>&1
tries=1
# --no-password: a wrong password is an error, not a prompt.
until said=$(script | psql "$DATABASE_URL" --no-psqlrc --no-password --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 \
    --set VERBOSITY=verbose 2>&1 >&3); do
    case $said in
        *55P03*) ;; # lock_not_available
        *P0001*) fail "$(echo "${said##*P0001: }" | head -n 1)" ;; # refused by the checks above
        *"startup parameter"*) fail "DATABASE_URL goes through a pooler; it must name PostgreSQL itself ($said)" ;;
        *) tidy; fail "failed; nothing of the failed step was kept" ;;
    esac
    [ "$tries" -gt 1 ] || { tidy; echo "migrate: waiting for a lock, trying again"; }
    [ "$tries" -lt "${LOCK_TRIES:-20}" ] || fail "got no lock in $tries tries; end the sessions that use the table (pg_stat_activity)"
    tries=$((tries + 1))
    sleep 2
done
[ -z "$said" ] || tidy
