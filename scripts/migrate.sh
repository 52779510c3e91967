#!/bin/sh
# Applies migrations/*.sql in file order, each once. POSIX sh and psql 14+ only, so it also runs in the postgres image.
#   DATABASE_URL         the owner's connection
#   PG_SERVICE_PASSWORD  password of orders_service where that role has to be created; may be unset
#   MIGRATIONS_DIR       another folder than ../migrations
set -eu

fail() { echo "migrate: $*" >&2; exit 1; }

: "${DATABASE_URL:?migrate: DATABASE_URL is not set}"
dir=${MIGRATIONS_DIR:-$(dirname "$0")/../migrations}
command -v psql >/dev/null || fail "psql is missing (Debian: apt-get install postgresql-client)"
[ -d "$dir" ] || fail "no folder $dir"

export PGCONNECT_TIMEOUT="${PGCONNECT_TIMEOUT:-10}"
# 'CREATE TABLE IF NOT EXISTS' would otherwise print a notice on every run.
export PGOPTIONS="${PGOPTIONS:-} -c client_min_messages=warning"

# --no-password: a wrong password is an error, not a prompt that waits for good.
run_psql() { psql "$DATABASE_URL" --no-psqlrc --no-password --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 "$@"; }

# Two runners queue on the lock; the second one looks only once it holds it, and finds the work done.
lock="SELECT pg_advisory_xact_lock(hashtextextended('order/schema_migrations', 0)) \\g /dev/null"

run_psql <<SQL
BEGIN;
$lock
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text        CONSTRAINT schema_migrations_pkey PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orders_service') AS role_is_missing \\gset
\\if :role_is_missing
    \\set password ''
    \\getenv password PG_SERVICE_PASSWORD
    SELECT :'password' <> '' AS has_password \\gset
    \\if :has_password
        CREATE ROLE orders_service LOGIN PASSWORD :'password';
        \\echo migrate: created role orders_service
    \\else
        CREATE ROLE orders_service LOGIN;
        \\echo migrate: created role orders_service without a password
    \\endif
\\endif
COMMIT;
SQL

applied=0 known=0
for file in "$dir"/*.sql; do
    [ -f "$file" ] || fail "no *.sql in $dir"
    name=$(basename "$file" .sql)
    # One session and one transaction per file: it is applied and recorded, or neither.
    result=$(run_psql --set name="$name" --set file="$file" <<SQL
BEGIN;
$lock
SELECT NOT EXISTS (SELECT FROM schema_migrations WHERE name = :'name') AS pending \\gset
\\if :pending
    \\i :file
    INSERT INTO schema_migrations (name) VALUES (:'name');
\\endif
COMMIT;
\\if :pending
    \\echo applied
\\endif
SQL
    ) || fail "$name failed; nothing of it was kept"
    case $result in
        *applied) echo "migrate: applied $name"; applied=$((applied + 1)) ;;
        *) known=$((known + 1)) ;;
    esac
done
[ "$applied" -gt 0 ] || echo "migrate: nothing to do, $known applied before"
