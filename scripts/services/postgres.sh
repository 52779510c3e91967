# shellcheck shell=bash disable=SC2154
# PostgreSQL: its data folder, its roles, start and stop. Part of scripts/services.sh.

# The data of the chosen version. It is a link to another folder if `postgres` cannot reach the checkout.
pg_link=$local_dir/pg${POSTGRES:+-$POSTGRES}

find_pg_bin() {
    if [ -n "${POSTGRES:-}" ]; then realpath -m "$servers/postgres-$POSTGRES/bin"; return; fi
    local found
    found=$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] || found=$(command -v postgres) || return 1
    # An existing data folder opens only with the version that made it.
    if [ -r "$pg_link/PG_VERSION" ]; then
        local same
        same=/usr/lib/postgresql/$(cat "$pg_link/PG_VERSION")/bin/postgres
        [ ! -x "$same" ] || found=$same
    fi
    dirname "$found"
}

has_pg() { pg_bin=$(find_pg_bin); }
has_pg_user() { ! is_root || id postgres >/dev/null 2>&1; }

# It refuses to run as root. `cd /`: the postgres user may not be able to enter the checkout.
as_pg() { if is_root; then (cd / && runuser -u postgres -- "$@"); else (cd / && "$@"); fi; }
superuser_sql() {
    PGPASSWORD=$superuser_password PGCONNECT_TIMEOUT=5 PGOPTIONS='-c client_min_messages=warning' \
        psql "postgres://postgres@127.0.0.1:$pg_port/postgres" -Xqw -v ON_ERROR_STOP=1 "$@"
}

# Creates the data folder, reachable by the user who runs PostgreSQL, and sets pg_data.
prepare_pg_data() {
    if [ ! -e "$pg_link" ]; then
        rm -f "$pg_link" # a link whose target is gone
        mkdir -m 700 "$pg_link"
        if is_root; then
            chown postgres: "$pg_link"
            if ! as_pg test -w "$pg_link"; then
                rmdir "$pg_link"
                local elsewhere
                elsewhere=$(mktemp -d /var/tmp/order-pg.XXXXXX)
                chown postgres: "$elsewhere"
                ln -s "$elsewhere" "$pg_link"
                say "the postgres user cannot reach this checkout; its data is in $elsewhere"
            fi
        fi
    fi
    pg_data=$(cd "$pg_link" && pwd -P) || fail "$pg_link belongs to another user; run as that user"
    as_pg test -w "$pg_data" || fail "$pg_link belongs to another user; run as that user"
    # An interrupted initdb leaves a folder that neither starts nor can be initialised again.
    if [ ! -e "$pg_data/order-initdb-done" ]; then
        say "creating the PostgreSQL data folder"
        find "$pg_data" -mindepth 1 -delete
    fi
}

init_pg() {
    [ -e "$pg_data/order-initdb-done" ] && return
    # The password goes through a pipe that the postgres user opens itself: it is in no file and no argument.
    # shellcheck disable=SC2016
    printf '%s\n' "$superuser_password" |
        as_pg bash -c 'password=$(cat); "$@" --pwfile=<(printf "%s\n" "$password")' _ \
            "$pg_bin/initdb" -D "$pg_data" -U postgres --auth=scram-sha-256 --encoding=UTF8 --locale=C \
            >"$local_dir/initdb.log" 2>&1 ||
        { tail -n 15 "$local_dir/initdb.log" >&2; fail "initdb failed"; }
    as_pg touch "$pg_data/order-initdb-done"
}

# Prints port and data folder of our postmaster, whatever its version, if it runs.
running_pg() {
    local link data pid
    for link in "$local_dir"/pg*; do
        data=$(cd "$link" 2>/dev/null && pwd -P) && pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) || continue
        if [[ $pid =~ ^[0-9]+$ ]] && [[ $(command_of "$pid") == *postgres*"$data "* ]]; then
            echo "$(sed -n 4p "$data/postmaster.pid") $data"
            return
        fi
    done
    return 1
}

# After a crash the recorded pid may belong to another process, and PostgreSQL would refuse to start.
# Only the pid is replaced, with a dead one: the file also names the memory that a leftover backend may still use.
forget_stale_pid() {
    if [ -s "$pg_data/postmaster.pid" ]; then
        # shellcheck disable=SC2016
        as_pg bash -c 'true & wait "$!"; sed -i.old "1s/.*/$!/" "$1/postmaster.pid"; rm -f "$1/postmaster.pid.old"' _ "$pg_data"
    else
        rm -f "$pg_data/postmaster.pid"
    fi
}

pg_up() {
    if ! has_pg; then compose_up postgres PostgreSQL postgresql; return; fi
    has_pg_user || fail "PostgreSQL does not run as root, and there is no user postgres to run it as"
    command -v psql >/dev/null || PATH=$PATH:$pg_bin
    prepare_pg_data
    init_pg
    local version how=runs
    if [ "$(running_pg)" != "$pg_port $pg_data" ]; then
        pg_down
        how=started
        port_answers "$pg_port" &&
            fail "port $pg_port is taken by something that is not this checkout's PostgreSQL; free it or set PG_PORT"
        forget_stale_pid
        as_pg "$pg_bin/pg_ctl" start -w -t "$start_seconds" -s -D "$pg_data" -l "$pg_data/server.log" \
            -o "-c listen_addresses=127.0.0.1 -p $pg_port -k '' -c max_connections=400 -c max_prepared_transactions=20" >/dev/null 9>&- ||
            { tail -n 15 "$pg_data/server.log" >&2; fail "PostgreSQL did not start on port $pg_port within $start_seconds s"; }
    fi
    version=$(superuser_sql -tA <<<"SELECT split_part(current_setting('server_version'), ' ', 1)") ||
        fail "PostgreSQL refuses the superuser; if .local/passwords was lost, 'scripts/services.sh clean' starts afresh"
    [[ $version == "${POSTGRES:+$POSTGRES.}"* ]] || fail "PostgreSQL $version $how in place of $POSTGRES"
    say "PostgreSQL $version $how on port $pg_port"
    create_roles
}

# Repeatable: the next run completes an interrupted one.
create_roles() {
    superuser_sql <<SQL || fail "could not set up the roles"
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['orders_owner', 'orders_service']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE orders_owner PASSWORD '$owner_password';
ALTER ROLE orders_service PASSWORD '$service_password';
SELECT 'CREATE DATABASE orders OWNER orders_owner' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'orders') \gexec
REVOKE ALL ON DATABASE orders, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE orders TO orders_service;
SQL
}

pg_down() {
    local running
    running=$(running_pg) || return 0
    end PostgreSQL "$(head -n 1 "${running#* }/postmaster.pid")" INT
}
