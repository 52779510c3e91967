#!/usr/bin/env bash
# Moves a client with its keys and orders from one cell's database to another's, in three steps (docs/scaling.md):
#   scripts/move-client.sh stop NAME   the old cell refuses the client's writes (503) and keeps answering its reads
#   scripts/move-client.sh copy NAME   copies the client's orders; then let the client's host name lead to the new cell
#   scripts/move-client.sh drop NAME   deletes the client's orders in the old cell, if the new one has them all
# `resume NAME` undoes `stop`. Each step may be repeated; one that fails changes nothing.
#   FROM_DATABASE_URL, TO_DATABASE_URL   the tables' owner in the old and in the new cell
set -euo pipefail
. "$(dirname "$0")/lib/start.sh"

fail() { echo "move-client: $*" >&2; exit 1; }
say() { echo "move-client: $*" >&2; }

case ${1:-} in
    stop | copy | drop | resume) ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"; exit ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2; exit 2 ;;
esac
[ $# -eq 2 ] || fail "usage: scripts/move-client.sh $1 NAME"
step=$1 name=$2
LC_ALL=C
# So it can be part of a statement as it is.
[[ $name =~ ^[a-z0-9-]{1,32}$ ]] || fail "not a client's name: '$name'; it is 1 to 32 of a-z, 0-9 and -"
: "${FROM_DATABASE_URL:?move-client: FROM_DATABASE_URL is not set}"
command -v psql >/dev/null || fail "psql is missing (Debian: apt-get install postgresql-client)"
export PGCONNECT_TIMEOUT="${PGCONNECT_TIMEOUT:-10}"
# Values as text must be the same on both sides. Other clients' writes wait for a lock of this no longer than a second.
export PGOPTIONS="${PGOPTIONS-} -c search_path=public -c client_min_messages=warning -c TimeZone=UTC -c DateStyle=ISO -c bytea_output=hex \
-c statement_timeout=0 -c lock_timeout=1s"
trigger=orders_stopped_$name

sql() { psql "$1" -XqAtw -v ON_ERROR_STOP=1 "${@:2}"; }
from() { sql "$FROM_DATABASE_URL" "$@"; }
to() { sql "$TO_DATABASE_URL" "$@"; }
is_stopped() { [ "$("$1" -c "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orders'::regclass AND tgname = '$trigger'")" = 1 ]; }
count() { "$1" -c "SELECT count(*) FROM orders WHERE client = '$name'"; }
# Repeats a transaction while sessions that use the table keep it from its lock.
locked() {
    local tries=1 said
    until said=$("$1" -v VERBOSITY=verbose --single-transaction -c "$2" 2>&1); do
        [[ $said = *55P03* ]] || fail "$said" # lock_not_available
        [ "$tries" -lt 20 ] || fail "got no lock in $tries tries; end the sessions that use the table (pg_stat_activity)"
        [ "$tries" -gt 1 ] || say "waiting for a lock, trying again"
        tries=$((tries + 1))
        sleep 1
    done
}
resume() { locked "$1" "DROP TRIGGER IF EXISTS \"$trigger\" ON orders"; }

stop() {
    # The lock waits for all writes that run, so each of them is either refused or copied.
    locked from "LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE;
        CREATE OR REPLACE FUNCTION refuse_stopped_client() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RAISE ''the client % is being moved to another cell'', NEW.client; END';
        CREATE OR REPLACE TRIGGER \"$trigger\" BEFORE INSERT OR UPDATE ON orders
            FOR EACH ROW WHEN (NEW.client = '$name') EXECUTE FUNCTION refuse_stopped_client()"
    say "the old cell refuses writes of $name, which has $(count from) orders"
}

copy() {
    local columns digest all
    # changed_xid is a transaction of the old server. The trigger stamps the rows in the new one.
    columns=$(from -c "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'orders'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'changed_xid'")
    digest="SELECT count(*) || ' ' || coalesce(sum(hashtextextended(($columns)::text, 0)), 0) FROM orders WHERE client = '$name'"
    all=$(from -c "$digest")
    if [ "$(count to)" = 0 ]; then
        # It may have been moved away from there once.
        if is_stopped to; then resume to; fi
        # A copy that was cut off would look complete to the reader, so the sum is checked before the commit.
        from -c "COPY (SELECT $columns FROM orders WHERE client = '$name') TO STDOUT" |
            to --single-transaction -c "\\copy orders ($columns) FROM PSTDIN" \
                -c "DO \$\$BEGIN IF ($digest) <> '$all' THEN RAISE 'the copy differs, and was not kept'; END IF; END\$\$" ||
            fail "nothing was copied"
        say "copied ${all% *} orders of $name; now let its host name lead to the new cell"
    else
        [ "$(to -c "$digest")" = "$all" ] || fail "the new cell already has other orders of $name"
        # It was moved here from there, and not yet dropped.
        if is_stopped to; then resume to; fi
        say "the new cell has the orders of $name already; now let its host name lead there"
    fi
}

drop() {
    local all
    all=$(count from)
    # What the client changed in the new cell has a higher version there.
    from -c "COPY (SELECT order_id, idempotency_key, fingerprint, version FROM orders WHERE client = '$name') TO STDOUT" |
        to --single-transaction -c "CREATE TEMP TABLE old AS SELECT order_id, idempotency_key, fingerprint, version FROM orders LIMIT 0" \
            -c "\\copy old FROM PSTDIN" \
            -c "DO \$\$BEGIN
                IF (SELECT count(*) FROM old JOIN orders USING (order_id, idempotency_key, fingerprint)
                    WHERE client = '$name' AND orders.version >= old.version) <> $all
                THEN RAISE 'the new cell lacks orders or changes'; END IF;
            END\$\$" ||
        fail "nothing was deleted"
    from -c "DELETE FROM orders WHERE client = '$name'"
    say "deleted $all orders of $name in the old cell, which keeps refusing its writes"
}

# A database that cannot be reached or has no orders ends it here, with psql's message.
epoch='SELECT epoch FROM feed_epoch'
old=$(from -c "$epoch")
case $step in copy | drop)
    : "${TO_DATABASE_URL:?move-client: TO_DATABASE_URL is not set}"
    new=$(to -c "$epoch")
    [ "$old" != "$new" ] || fail "FROM_DATABASE_URL and TO_DATABASE_URL name the same database"
    is_stopped from || fail "the old cell still takes writes of $name: run stop first"
    ;;
esac
case $step in
    resume) resume from; say "the old cell takes writes of $name again" ;;
    *) "$step" ;;
esac
