#!/usr/bin/env bash
# What the commands do to other people's databases and services: refuse, ask, or leave them alone.
# It has its own PostgreSQL and Redis and deletes their data at the end. Run it through `make test`, which builds first.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
suite=commands
. tests/assertions.sh

export ORDER_LOCAL_DIR=$PWD/.local/commands
export REDIS_PORT=$((${REDIS_PORT:-16379} + 4)) PG_PORT=$((${PG_PORT:-15432} + 4))
unset REDIS_URL DATABASE_URL PG_SERVICE_PASSWORD BASE_URL CONFIRM
trap 'scripts/services.sh clean >/dev/null 2>&1' EXIT
trap 'exit 130' INT TERM
# Deletes what an interrupted run left, too.
scripts/services.sh clean >/dev/null 2>&1
scripts/services.sh up
[ ! -e "$ORDER_LOCAL_DIR/compose" ] || fail "install redis-server and postgresql: this makes databases as their superuser"
password=$(sed -n 's/^PG_SUPERUSER_PASSWORD=//p' "$ORDER_LOCAL_DIR/passwords")
url=postgres://postgres:$password@127.0.0.1:$PG_PORT

sql() { PGOPTIONS='-c client_min_messages=warning' psql "$url/$1" -Xqwtc "$2" -A -v ON_ERROR_STOP=1; }
create() { sql postgres "CREATE DATABASE $*"; }
tables() { sql "$1" "SELECT count(*) FROM pg_class WHERE relname IN ('orders', 'schema_migrations')"; }
roles() { sql postgres "SELECT count(*) FROM pg_roles WHERE rolname = 'orders_service'"; }
public_rights() {
    sql "$1" "SELECT has_database_privilege('public', current_database(), 'CONNECT'), has_schema_privilege('public', 'public', 'USAGE')"
}
migrate() { DATABASE_URL=$url/$1 scripts/migrate.sh; }
drop_role() { sql "$1" 'DROP OWNED BY orders_service'; sql postgres 'DROP OWNED BY orders_service'; sql postgres 'DROP ROLE orders_service'; }
# A session that has run some SQL and stays in its transaction until `let_go`.
hold() {
    coproc HELD { psql "$url/$1" -Xqwt -v ON_ERROR_STOP=1; }
    printf 'BEGIN; %s;\n\\echo held\n' "$2" >&"${HELD[1]}"
    local line=
    until [ "$line" = held ]; do read -r -t 10 -u "${HELD[0]}" line || fail "nothing was held"; done
}
let_go() { local pid=$HELD_PID; printf 'COMMIT;\n\\q\n' >&"${HELD[1]}"; wait "$pid"; }

begin "psql 13 is enough"
# \getenv, for example, came with 15, \bind with 16. These are in the manual of 13.
known=' echo endif g gset i if set '
while read -r command; do
    contains "$known" " ${command#?} "
done < <(sed -nE 's/^ *(.*[ ;])?\\?(\\[a-z]+).*/\2/p' scripts/migrate.sh migrations/*.sql | sort -u)

begin "a new constraint is NOT VALID first, so that reading the table blocks no statement"
for file in migrations/*.sql; do
    if tr '\n' ' ' <"$file" | sed 's/;/;\n/g' | grep 'ALTER TABLE.*ADD CONSTRAINT' | grep -v 'USING INDEX' | grep -qv 'NOT VALID'; then fail "$file"; fi
done

sql orders 'DROP OWNED BY orders_service'
sql postgres 'DROP ROLE orders_service'

for encoding in SQL_ASCII LATIN1; do
    begin "a database in $encoding is refused, and nothing is written"
    create "in_$encoding ENCODING '$encoding' LOCALE 'C' TEMPLATE template0"
    refused migrate "in_${encoding,,}"
    contains "$said" "migrate: database in_${encoding,,} on 127.0.0.1 port $PG_PORT"
    contains "$said" "migrate: the encoding is $encoding, and orders need UTF8"
    equal "$(tables "in_${encoding,,}")" 0
    equal "$(roles)" 0
done

begin "a database with other tables needs CONFIRM=1, and nothing is written without"
create shared
sql shared 'CREATE TABLE customers (id int); CREATE SCHEMA "the books"; CREATE VIEW "the books".sums AS SELECT 1'
refused migrate shared
contains "$said" "migrate: the database has other tables: public.customers, \"the books\".sums; set CONFIRM=1"
contains_not "$said" "$password"
equal "$(tables shared)" 0
equal "$(roles)" 0
refused env DATABASE_URL="$url/shared" make --no-print-directory run
contains "$said" "set CONFIRM=1"
equal "$(tables shared)" 0

begin "with CONFIRM=1 it is migrated, and PUBLIC keeps its rights there"
done_by env DATABASE_URL="$url/shared" make --no-print-directory migrate CONFIRM=1
contains "$said" "migrate: database shared on 127.0.0.1 port $PG_PORT"
contains "$said" "PUBLIC keeps its rights"
contains_not "$said" "$password"
equal "$(tables shared)" 2
equal "$(public_rights shared)" 't|t'
done_by migrate shared
contains "$said" "nothing to do, all 1 are applied"
drop_role shared

begin "tables of an extension are not other tables"
create extended
sql extended 'CREATE EXTENSION pg_stat_statements' # has a view
done_by migrate extended
equal "$(public_rights extended)" 'f|f'
drop_role extended

for table in 'orders (id int)' 'schema_migrations (version text)'; do
    begin "a database with another program's table ${table%% *} is refused, even with CONFIRM=1"
    create "taken_by_${table%% *}"
    sql "taken_by_${table%% *}" "CREATE TABLE $table"
    refused env CONFIRM=1 DATABASE_URL="$url/taken_by_${table%% *}" scripts/migrate.sh
    contains "$said" "migrate: there is a table orders or schema_migrations of another program or of 0.1"
    equal "$(tables "taken_by_${table%% *}")" 1
done

begin "the new role logs in with any password"
create fresh
odd="a'b\"c\\d \$HOME \`e\` %:name :'f' é"
done_by env PG_SERVICE_PASSWORD="$odd" DATABASE_URL="$url/fresh" sh scripts/migrate.sh
contains "$said" "applied 20261129000000_create_orders"
contains_not "$said" "WARNING"
equal "$(PGPASSWORD=$odd psql "postgres://orders_service@127.0.0.1:$PG_PORT/fresh" -XqwtA -c 'SELECT count(*) FROM orders')" 0
equal "$(public_rights fresh)" 'f|f'

begin "text is compared by bytes, and no index has the order of a locale"
by_bytes="SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute
    WHERE attrelid = 'orders'::regclass AND attcollation = '\"C\"'::regcollation"
equal "$(sql fresh "$by_bytes")" 'client customer_id idempotency_key status'
by_locale="SELECT coalesce(string_agg(indexrelid::regclass::text, ' '), 'none') FROM pg_index, unnest(indcollation::oid[]) AS kind
    WHERE indrelid IN ('orders'::regclass, 'schema_migrations'::regclass) AND kind NOT IN (0, '\"C\"'::regcollation)"
equal "$(sql fresh "$by_locale")" none
equal "$(sql fresh "SELECT count(*) FROM pg_indexes WHERE tablename = 'orders'")" 5

begin "a migration that waits for a long reader does not block the service"
mkdir "$ORDER_LOCAL_DIR/migrations"
cp migrations/*.sql "$ORDER_LOCAL_DIR/migrations"
echo 'ALTER TABLE orders ADD COLUMN note text;' >"$ORDER_LOCAL_DIR/migrations/29991231000000_add_note.sql"
export MIGRATIONS_DIR=$ORDER_LOCAL_DIR/migrations
hold fresh 'SELECT count(*) FROM orders'
# Without the lock timeout under test, this statement timeout ends the wait.
PGOPTIONS='-c statement_timeout=30s' LOCK_TRIES=2 refused migrate fresh
contains "$said" "psql:29991231000000_add_note.sql:1: ERROR:  55P03"
contains "$said" "migrate: waiting for a lock, trying again"
contains "$said" "migrate: got no lock in 2 tries"
equal "$(sql fresh "SELECT count(*) FROM schema_migrations WHERE name LIKE '2999%'")" 0
let_go
done_by migrate fresh
contains "$said" "applied 29991231000000_add_note"
unset MIGRATIONS_DIR
drop_role fresh

begin "of two concurrent runs one waits for the other, and an index that a killed run left half built is rebuilt"
create interrupted
done_by migrate interrupted
rm "$ORDER_LOCAL_DIR"/migrations/2999*
cat >"$ORDER_LOCAL_DIR/migrations/29991231000001_index_currency.sql" <<'SQL'
-- migrate: outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS orders_currency_idx;
CREATE INDEX CONCURRENTLY orders_currency_idx ON orders (client, currency);
SQL
export MIGRATIONS_DIR=$ORDER_LOCAL_DIR/migrations
sql interrupted "CREATE INDEX orders_currency_idx ON orders (order_id)"
sql interrupted "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_currency_idx'::regclass"
# Limits that would end a long build. The build also waits for a transaction that is open longer than a second.
sql interrupted "ALTER DATABASE interrupted SET statement_timeout = 500; ALTER DATABASE interrupted SET lock_timeout = 500;
    ALTER DATABASE interrupted SET idle_in_transaction_session_timeout = 500"
PGOPTIONS='-c idle_in_transaction_session_timeout=0' hold interrupted 'SELECT count(*) FROM orders'
migrate interrupted >"$ORDER_LOCAL_DIR/first.log" 2>&1 &
first=$!
builds="SELECT count(*) FROM pg_stat_activity WHERE datname = 'interrupted' AND query LIKE '%INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"
for _ in $(seq 100); do
    [ "$(sql postgres "$builds")" = 0 ] || break
    sleep 0.1
done
LOCK_TRIES=1 refused migrate interrupted
contains "$said" "migrate: got no lock in 1 tries"
sleep 1
kill -0 "$first" || fail "the build did not wait: $(cat "$ORDER_LOCAL_DIR/first.log")"
let_go
wait "$first" || fail "$(cat "$ORDER_LOCAL_DIR/first.log")"
contains "$(cat "$ORDER_LOCAL_DIR/first.log")" "applied 29991231000001_index_currency"
equal "$(sql interrupted "SELECT indisvalid, pg_get_indexdef(indexrelid) LIKE '%(client, currency)' FROM pg_index
    WHERE indexrelid = 'orders_currency_idx'::regclass")" 't|t'
unset MIGRATIONS_DIR
drop_role interrupted

begin "an owner without the right to create roles continues; orders_service gets its rights once it exists"
create 'managed OWNER orders_owner'
owner=postgres://orders_owner:$(sed -n 's/^PG_OWNER_PASSWORD=//p' "$ORDER_LOCAL_DIR/passwords")@127.0.0.1:$PG_PORT/managed
done_by env DATABASE_URL="$owner" scripts/migrate.sh
contains "$said" "migrate: orders_owner may not create the role orders_service: set pg_user to orders_owner, or have it created and run this again"
equal "$(tables managed)/$(roles)" 2/0
sql postgres 'CREATE ROLE orders_service LOGIN'
done_by env DATABASE_URL="$owner" scripts/migrate.sh
equal "$(sql managed "SELECT has_table_privilege('orders_service', 'feed_epoch', 'SELECT'), has_column_privilege('orders_service', 'orders', 'status', 'UPDATE'),
    has_column_privilege('orders_service', 'orders', 'items', 'UPDATE')")" 't|t|f'
drop_role managed

begin "a pooler is refused: its session is shared, and PGOPTIONS does not reach it"
refused env DATABASE_URL="$owner?options=-c%20geqo%3Doff" scripts/migrate.sh
contains "$said" "migrate: DATABASE_URL goes through a pooler or has its own options"

begin "two databases migrated at the same time both find the role that one of them creates"
create second
hold postgres 'CREATE ROLE orders_service LOGIN'
migrate second >"$ORDER_LOCAL_DIR/second.log" 2>&1 &
second=$!
waits="SELECT count(*) FROM pg_stat_activity WHERE datname = 'second' AND wait_event_type = 'Lock'"
for _ in $(seq 100); do
    [ "$(sql postgres "$waits")" = 0 ] || break
    sleep 0.1
done
equal "$(sql postgres "$waits")" 1
let_go
wait "$second" || fail "$(cat "$ORDER_LOCAL_DIR/second.log")"

begin "an address is the URL without user and password"
said=$(REDIS_URL="rediss://us%40er:p%2F%27%20@[::1]" DATABASE_URL='postgresql://u:p%25@db.example/o?sslmode=require' scripts/services.sh env)
said=$(env -i bash -c "$said"'; env')
for line in REDIS_ADDRESS='rediss://[::1]:6379' REDIS_USER=us@er REDIS_PASSWORD="p/' " \
    PG_ADDRESS=postgres://db.example:5432 PG_USER=u PG_PASSWORD=p% PG_DATABASE=o PG_SSLMODE=require; do
    contains "$said"$'\n' "SPIN_VARIABLE_$line"$'\n'
done

begin "a Spin that is too old is named in one line, and the bundled host serves"
mkdir "$ORDER_LOCAL_DIR/bin"
spin_of() { printf '#!/bin/sh\necho "spin %s (bfc7543 2026-05-01)"\n' "$1" >"$ORDER_LOCAL_DIR/bin/spin"; chmod +x "$ORDER_LOCAL_DIR/bin/spin"; }
with_spin() { env RUNTIME="$1" PATH="$ORDER_LOCAL_DIR/bin:$PATH" scripts/runtime.sh name; }
for old in 3.9.1 4.0.2; do
    spin_of "$old"
    equal "$(with_spin '' 2>/dev/null)" "the bundled host"
    done_by with_spin ''
    contains "$said" "spin $old is too old for this component, so the bundled host serves it; install Spin 4.1 or newer: "
    refused with_spin spin
    contains "$said" "spin $old is too old for this component; install Spin 4.1 or newer: "
    equal "$(wc -l <<<"$said" | tr -d ' ')" 1
done
for new in 4.1.0 4.1.0-pre0 4.10.2 5.0.0; do
    spin_of "$new"
    equal "$(with_spin spin 2>&1)" "spin $new"
    equal "$(with_spin '' 2>&1)" "spin $new"
done
spin_of none
equal "$(with_spin '' 2>/dev/null)" "the bundled host"

begin "a server of an unknown version is refused, and nothing is stopped"
before=$(scripts/services.sh status)
refused env POSTGRES=16 scripts/services.sh up
equal "$said" "services: POSTGRES=16 is not known; known are: 15 17 18"
refused env VALKEY=7 scripts/services.sh migrate
equal "$said" "services: VALKEY=7 is not known; known are: 9"
contains "$before" "PostgreSQL ${POSTGRES:-}"
equal "$(scripts/services.sh status)" "$before"

begin "scripts that test or prove use only their own stores"
foreign=(env REDIS_URL=redis://127.0.0.1:1 DATABASE_URL=postgres://someone:secret@127.0.0.1:1/shop PG_SERVICE_PASSWORD=secret)
done_by "${foreign[@]}" scripts/lib/with-service.sh env
contains "$said" "REDIS_URL is set and ignored"
contains "$said" "DATABASE_URL is set and ignored"
contains "$said" "REDIS_URL=redis://127.0.0.1:$REDIS_PORT"
contains_not "$said" "secret"
contains_not "$said" "127.0.0.1:1/"
for script in scripts/*.sh scripts/lib/*.sh; do
    case $script in scripts/services.sh | scripts/run.sh) continue ;; esac
    grep -q 'services.sh migrate' "$script" || continue
    grep -qE 'services.sh own|unset REDIS_URL DATABASE_URL' "$script" || fail "$script takes what REDIS_URL and DATABASE_URL name"
done
eval "$(scripts/services.sh env)"
equal "$(scripts/services.sh own 2>&1)" "unset PG_SERVICE_PASSWORD" # our own URLs need no `unset`

begin "the ACL rules of docs/operations.md are valid and allow what src/spin sends"
rules=$(sed -n '/^ACL SETUSER /s/>PASSWORD/>secret/p' docs/operations.md)
equal "$(wc -l <<<"$rules" | tr -d ' ')" 4
equal "$(redis-cli -p "$REDIS_PORT" <<<"$rules" | sort -u)" OK
for file in redis_answers redis_commands; do
    for command in $(grep -oE '"(GET|SET|PING|X[A-Z]+)"' "src/spin/$file.rs" | tr -d '"' | tr '[:upper:]' '[:lower:]'); do
        contains "$(grep 'order-intake on' <<<"$rules") " " +$command"
        [ $file = redis_commands ] || contains "$(grep 'order on' <<<"$rules") " " +$command "
    done
done
contains "$(redis-cli -p "$REDIS_PORT" ACL DRYRUN order XADD orders:commands '*' key k)" "no permissions"
equal "$(redis-cli -p "$REDIS_PORT" ACL DRYRUN order-intake SUBSCRIBE orders:doorbell)" OK
contains "$(redis-cli -p "$REDIS_PORT" ACL DRYRUN order-intake SUBSCRIBE another)" "no permissions"

begin "after a restore Redis names an order that is gone, until redis_key_prefix changes"
# The steps of docs/operations.md.
# shellcheck disable=SC2016
place='
    const headers = { "Idempotency-Key": "restored", "Content-Type": "application/json" };
    const body = `{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}]}`;
    fetch(process.env.BASE_URL + "/orders", { method: "POST", headers, body }).then(async (answer) => {
        const { orderId } = await answer.json();
        const found = await fetch(process.env.BASE_URL + "/orders/" + orderId);
        console.log(`answered: ${answer.status} ${answer.headers.get("idempotent-replayed")} ${found.status} ${orderId}`);
        process.exit();
    });
'
# Prints the status, whether it is a replay, the status of GET by the order's id, and the id.
with_prefix() {
    done_by env SPIN_VARIABLE_REDIS_KEY_PREFIX="$1" scripts/lib/with-service.sh node -e "$place"
    sed -n 's/^answered: //p' <<<"$said"
}
create 'backup TEMPLATE orders OWNER orders_owner'
first=$(with_prefix order)
contains "$first" "201 false 200 "
sql postgres 'DROP DATABASE orders WITH (FORCE)'
sql postgres 'ALTER DATABASE backup RENAME TO orders'
equal "$(with_prefix order)" "201 true 404 ${first##* }"
renamed=$(with_prefix order-2)
contains "$renamed" "201 false 200 "
contains_not "$renamed" "${first##* }"
equal "$(with_prefix order-2)" "201 true 200 ${renamed##* }"
equal "$(sql orders "SELECT count(*) FROM orders WHERE idempotency_key = 'restored'")" 1

begin "a move of a client keeps no part of a copy, and deletes nothing that the new cell lacks"
for cell in cell_one cell_two; do
    create "$cell"
    done_by migrate "$cell"
done
sql cell_one "INSERT INTO orders (order_id, client, idempotency_key, fingerprint, customer_id, currency, items, total_amount, created_at, updated_at)
    SELECT gen_random_uuid(), client, 'k', sha256(''), 'c', 'RUB', '[1]', 1, now(), now() FROM unnest(ARRAY['web', 'web-2', 'shop']) AS client"
# Copies nothing, and reports no error.
mkdir "$ORDER_LOCAL_DIR/cut"
psql=$(command -v psql)
printf '#!/bin/sh\ncase "$*" in *"TO STDOUT"*) ;; *) exec %s "$@" ;; esac\n' "$psql" >"$ORDER_LOCAL_DIR/cut/psql"
chmod +x "$ORDER_LOCAL_DIR/cut/psql"
move() { FROM_DATABASE_URL=$url/cell_one TO_DATABASE_URL=$url/cell_two scripts/move-client.sh "$@"; }
orders_in() { sql "$1" "SELECT coalesce(string_agg(client, ' ' ORDER BY client), 'none') FROM orders"; }
refused move stop "web' OR true"
contains "$said" "not a client's name"
refused move copy web
contains "$said" "run stop first"
done_by move stop web
refused sql cell_one "UPDATE orders SET status = 'confirmed' WHERE client = 'web'"
contains "$said" "the client web is being moved to another cell"
sql cell_one "UPDATE orders SET status = 'confirmed' WHERE client <> 'web'"
PATH=$ORDER_LOCAL_DIR/cut:$PATH refused move copy web
contains "$said" "the copy differs, and was not kept"
refused move drop web
contains "$said" "the new cell lacks orders"
equal "$(orders_in cell_one), $(orders_in cell_two)" 'shop web web-2, none'
for _ in 1 2; do done_by move copy web; done
equal "$(orders_in cell_one), $(orders_in cell_two)" 'shop web web-2, web'
for step in copy drop; do
    refused env FROM_DATABASE_URL="$url/cell_one" TO_DATABASE_URL="$url/cell_one" scripts/move-client.sh "$step" web
    contains "$said" "name the same database"
done
refused env FROM_DATABASE_URL="$url/missing" scripts/move-client.sh stop web
contains "$said" 'database "missing" does not exist'
PGOPTIONS='-c default_transaction_read_only=on' refused move stop shop
contains "$said" "read-only transaction"
contains_not "$said" "tries"
done_by move resume web
sql cell_one "UPDATE orders SET version = version + 1 WHERE client = 'web'"
for _ in 1 2; do done_by move stop web; done
refused move copy web
contains "$said" "the new cell already has other orders of web"
refused move drop web
contains "$said" "the new cell lacks orders or changes"
sql cell_two "UPDATE orders SET version = version + 1, status = 'confirmed'"
done_by move drop web
equal "$(orders_in cell_one), $(orders_in cell_two)" 'shop web-2, web'
# Back again, and there once more before the drop.
cell() { FROM_DATABASE_URL=$url/$1 TO_DATABASE_URL=$url/$2 done_by scripts/move-client.sh "$3" web; }
for step in stop copy; do cell cell_two cell_one "$step"; done
for step in stop copy; do cell cell_one cell_two "$step"; done
sql cell_two "UPDATE orders SET version = version + 1 WHERE client = 'web'"
refused sql cell_one "UPDATE orders SET version = version + 1 WHERE client = 'web'"

begin "a BASE_URL may end in a slash"
scripts/lib/npm.sh
log=$ORDER_LOCAL_DIR/requests
node -e '
    const server = require("http").createServer((request, response) => {
        require("fs").appendFileSync(process.argv[1], request.url + "\n");
        response.end("{}");
    });
    server.listen(0, "127.0.0.1", () => console.log(server.address().port));
' "$log" >"$ORDER_LOCAL_DIR/port" &
server=$!
for _ in $(seq 100); do
    [ ! -s "$ORDER_LOCAL_DIR/port" ] || break
    sleep 0.1
done
BASE_URL=http://127.0.0.1:$(cat "$ORDER_LOCAL_DIR/port")/ scripts/newman.sh >/dev/null 2>&1 || true # every assertion fails
kill "$server"
contains "$(cat "$log")" "/orders"
contains_not "$(cat "$log")" "//"

echo "commands: all passed"
