#!/usr/bin/env bash
# Redis and PostgreSQL for this checkout, on ports of their own, with their data in .local/.
#   up       start what is not running, installing it where it can be
#   migrate  up, then apply the migrations
#   env      print the export lines that the service and the tests need
#   own      print the lines that make a shell forget stores of one's own, for whatever tests, proves or measures
#   status   say what runs
#   down     stop both, keep the data
#   clean    stop both, delete the data
# REDIS_PORT and PG_PORT choose other ports, ORDER_LOCAL_DIR another folder: a second pair of stores.
# A REDIS_URL or DATABASE_URL in the environment wins: that store is used as it is.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"
local_dir=${ORDER_LOCAL_DIR:-$root/.local}
redis_port=${REDIS_PORT:-16379}
pg_port=${PG_PORT:-15432}
redis_dir=$local_dir/redis
# A link to a folder elsewhere where `postgres` cannot reach the checkout.
pg_link=$local_dir/pg
start_seconds=30

say() { echo "services: $*" >&2; }
fail() { say "$*"; exit 1; }
is_root() { [ "$(id -u)" -eq 0 ]; }

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
within() { local seconds=$1; shift; if command -v timeout >/dev/null; then timeout "$seconds" "$@"; else "$@"; fi; }

# Pids are reused, so a pid file alone proves nothing. Bare Debian has no `ps`.
command_of() {
    if [ -r "/proc/$1/cmdline" ]; then tr '\0' ' ' <"/proc/$1/cmdline"; else ps -o args= -p "$1" 2>/dev/null || true; fi
}

random_hex() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

load_passwords() {
    mkdir -p "$local_dir"
    if [ ! -s "$local_dir/passwords" ]; then
        local draft
        draft=$(mktemp "$local_dir/passwords.XXXXXX") # mode 600
        printf '%s=%s\n' PG_SUPERUSER_PASSWORD "$(random_hex)" PG_OWNER_PASSWORD "$(random_hex)" \
            PG_SERVICE_PASSWORD "$(random_hex)" >"$draft"
        # `ln` does not replace: of two first runs one wins, and both read the same file.
        ln "$draft" "$local_dir/passwords" 2>/dev/null || true
        rm -f "$draft"
    fi
    local name value
    while IFS='=' read -r name value; do
        case $name in
            PG_SUPERUSER_PASSWORD) superuser_password=$value ;;
            PG_OWNER_PASSWORD) owner_password=$value ;;
            PG_SERVICE_PASSWORD) service_password=$value ;;
        esac
    done <"$local_dir/passwords"
    : "${superuser_password:?} ${owner_password:?} ${service_password:?}"
    own_redis_url=redis://127.0.0.1:$redis_port
    own_database_url=postgres://orders_owner:$owner_password@127.0.0.1:$pg_port/orders
}

# A shell that has evaluated `env` carries our own URLs, perhaps with an old password: they still mean the local stores.
redis_is_external() { [ -n "${REDIS_URL:-}" ] && [ "$REDIS_URL" != "$own_redis_url" ]; }
pg_is_external() { [ -n "${DATABASE_URL:-}" ] && [[ $DATABASE_URL != postgres://orders_owner:*@127.0.0.1:$pg_port/orders ]]; }

# ---- binaries

has_redis() { command -v redis-server >/dev/null && command -v redis-cli >/dev/null; }

find_pg_bin() {
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

install_missing() {
    local missing=()
    redis_is_external || has_redis || missing+=(redis-server)
    pg_is_external || has_pg || missing+=(postgresql)
    [ ${#missing[@]} -eq 0 ] && return
    # The packages' own daemons use other ports. One that cannot start fails the install, but its binary is there.
    scripts/install.sh "${missing[@]}" || true
}

can_compose() { docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; }
compose() { REDIS_PORT=$redis_port PG_PORT=$pg_port docker compose --env-file "$local_dir/passwords" "$@"; }
compose_up() {
    can_compose || fail "$2 is missing: install it (Debian, Ubuntu: apt-get install $3), or install Docker with its compose plugin and start it"
    say "$2 is not installed, using docker compose"
    touch "$local_dir/compose"
    compose up -d --wait --wait-timeout 120 "$1" >&2 || fail "docker compose could not start $1"
}

# ---- Redis

our_redis_dir() { (cd "$redis_dir" 2>/dev/null && pwd -P); }
redis_is_ours() {
    has_redis || return 1
    [ "$(within 2 redis-cli -h 127.0.0.1 -p "$redis_port" config get dir 2>/dev/null | tail -n 1)" = "$(our_redis_dir)" ]
}

redis_pids() {
    local file pid
    for file in "$redis_dir"/redis-*.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        [[ $pid =~ ^[0-9]+$ ]] && [[ $(command_of "$pid") == *redis-server*:"$(basename "$file" .pid | cut -d- -f2)"* ]] && echo "$pid"
    done
    return 0
}

redis_up() {
    if ! has_redis; then compose_up redis Redis redis-server; return; fi
    mkdir -p "$redis_dir"
    local pid
    for pid in $(redis_pids); do kill -CONT "$pid" 2>/dev/null || true; done # a test may have left it stopped
    if redis_is_ours; then say "Redis runs on port $redis_port"; return; fi
    port_answers "$redis_port" &&
        fail "port $redis_port is taken by something that is not this checkout's Redis; free it or set REDIS_PORT"
    rm -f "$redis_dir/redis-$redis_port.pid"
    redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$redis_dir" --save '' --appendonly no \
        --maxmemory-policy noeviction --daemonize yes --pidfile "$redis_dir/redis-$redis_port.pid" \
        --logfile "$redis_dir/redis.log" >/dev/null 9>&- || true
    local deadline=$((SECONDS + start_seconds))
    until redis_is_ours; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 15 "$redis_dir/redis.log" >&2 || true
            fail "Redis did not answer on port $redis_port within $start_seconds s"
        fi
        sleep 0.1
    done
    say "Redis started on port $redis_port"
}

redis_down() {
    local pid deadline=$((SECONDS + start_seconds))
    for pid in $(redis_pids); do
        kill -CONT "$pid" 2>/dev/null || true
        kill "$pid"
        while [[ $(command_of "$pid") == *redis-server* ]]; do
            [ "$SECONDS" -lt "$deadline" ] || fail "Redis (pid $pid) did not stop within $start_seconds s"
            sleep 0.1
        done
        say "Redis stopped"
    done
    rm -f "$redis_dir"/redis-*.pid
}

# ---- PostgreSQL

# It refuses to run as root. `cd /`: the postgres user may not be able to enter the checkout.
as_pg() { if is_root; then (cd / && runuser -u postgres -- "$@"); else (cd / && "$@"); fi; }
superuser_sql() {
    PGPASSWORD=$superuser_password PGCONNECT_TIMEOUT=5 PGOPTIONS='-c client_min_messages=warning' \
        psql "postgres://postgres@127.0.0.1:$pg_port/postgres" -Xqw -v ON_ERROR_STOP=1
}

# Makes the data folder, reachable by the user who runs PostgreSQL, and sets pg_data.
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
    # initdb cut short leaves a folder that neither starts nor can be initialised again.
    if [ ! -e "$pg_data/order-initdb-done" ]; then
        say "creating the PostgreSQL data folder"
        find "$pg_data" -mindepth 1 -delete
    fi
}

init_pg() {
    [ -e "$pg_data/order-initdb-done" ] && return
    # The password goes through a pipe that the postgres user opens itself: neither a file nor an argument.
    # shellcheck disable=SC2016
    printf '%s\n' "$superuser_password" |
        as_pg bash -c 'password=$(cat); "$@" --pwfile=<(printf "%s\n" "$password")' _ \
            "$pg_bin/initdb" -D "$pg_data" -U postgres --auth=scram-sha-256 --encoding=UTF8 --locale=C \
            >"$local_dir/initdb.log" 2>&1 ||
        { tail -n 15 "$local_dir/initdb.log" >&2; fail "initdb failed"; }
    as_pg touch "$pg_data/order-initdb-done"
}

# Prints the port of our running postmaster, if there is one.
running_pg_port() {
    local data pid
    data=$(cd "$pg_link" 2>/dev/null && pwd -P) || return 1
    pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] && [[ $(command_of "$pid") == *postgres*"$data"* ]] || return 1
    sed -n 4p "$data/postmaster.pid"
}

# After a crash the recorded pid may be another process by now, and PostgreSQL would refuse to start.
# Only the pid is replaced, by a dead one: the file also names the memory that a leftover backend may still use.
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
    if is_root && ! id postgres >/dev/null 2>&1; then
        fail "PostgreSQL does not run as root, and there is no user postgres to run it as"
    fi
    command -v psql >/dev/null || PATH=$PATH:$pg_bin
    prepare_pg_data
    init_pg
    local port
    port=$(running_pg_port) || port=
    if [ -n "$port" ] && [ "$port" != "$pg_port" ]; then pg_down; port=; fi
    if [ -n "$port" ]; then
        say "PostgreSQL runs on port $pg_port"
    else
        port_answers "$pg_port" &&
            fail "port $pg_port is taken by something that is not this checkout's PostgreSQL; free it or set PG_PORT"
        forget_stale_pid
        as_pg "$pg_bin/pg_ctl" start -w -t "$start_seconds" -s -D "$pg_data" -l "$pg_data/server.log" \
            -o "-c listen_addresses=127.0.0.1 -p $pg_port -k '' -c max_connections=300" >/dev/null 9>&- ||
            { tail -n 15 "$pg_data/server.log" >&2; fail "PostgreSQL did not start on port $pg_port within $start_seconds s"; }
        say "PostgreSQL started on port $pg_port"
    fi
    create_roles
}

# Repeatable: a run that was cut short is completed by the next one.
create_roles() {
    superuser_sql <<SQL || fail "could not set up the roles; if .local/passwords was lost, 'scripts/services.sh clean' starts afresh"
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
    running_pg_port >/dev/null || return 0
    has_pg || fail "PostgreSQL runs, but pg_ctl is gone"
    as_pg "$pg_bin/pg_ctl" stop -w -s -m fast -t "$start_seconds" -D "$(cd "$pg_link" && pwd -P)" >&2
    say "PostgreSQL stopped"
}

# ---- URLs

percent_decode() { local text=${1//\\/\\\\}; printf '%b' "${text//%/\\x}"; }

# Sets url_user, url_password, url_host, url_port, url_path and url_query.
parse_url() {
    local rest=${1#*://} authority userinfo=
    url_query=
    if [[ $rest == *\?* ]]; then url_query=${rest#*\?}; rest=${rest%%\?*}; fi
    authority=${rest%%/*} url_path=
    [[ $rest != */* ]] || url_path=${rest#*/}
    if [[ $authority == *@* ]]; then userinfo=${authority%@*}; authority=${authority##*@}; fi
    url_user=$(percent_decode "${userinfo%%:*}") url_password=
    [[ $userinfo != *:* ]] || url_password=$(percent_decode "${userinfo#*:}")
    url_host=$authority url_port=$2
    if [[ $authority =~ ^(.*):([0-9]+)$ ]]; then url_host=${BASH_REMATCH[1]} url_port=${BASH_REMATCH[2]}; fi
    url_path=$(percent_decode "$url_path")
    [ -n "$url_host" ] || fail "no host in $3"
}

export_line() { printf 'export %s=%q\n' "$1" "$2"; }

redis_env() {
    local url=$own_redis_url
    if redis_is_external; then url=$REDIS_URL; fi
    [[ $url =~ ^rediss?:// ]] || fail "REDIS_URL must start with redis:// or rediss://"
    parse_url "$url" 6379 REDIS_URL
    [[ $url_path =~ ^0?$ ]] || fail "REDIS_URL names database $url_path, but the service uses 0"
    export_line REDIS_URL "$url"
    export_line SPIN_VARIABLE_REDIS_ADDRESS "${url%%://*}://$url_host:$url_port"
    export_line SPIN_VARIABLE_REDIS_USER "$url_user"
    export_line SPIN_VARIABLE_REDIS_PASSWORD "$url_password"
}

pg_env() {
    local url=$own_database_url
    if pg_is_external; then url=$DATABASE_URL; fi
    [[ $url =~ ^postgres(ql)?:// ]] || fail "DATABASE_URL must start with postgres://"
    parse_url "$url" 5432 DATABASE_URL
    export_line DATABASE_URL "$url"
    export_line SPIN_VARIABLE_PG_ADDRESS "postgres://$url_host:$url_port"
    export_line SPIN_VARIABLE_PG_DATABASE "${url_path:-$url_user}"
    if [[ "&$url_query" =~ \&sslmode=([a-z-]+) ]]; then export_line SPIN_VARIABLE_PG_SSLMODE "${BASH_REMATCH[1]}"; fi
    if pg_is_external; then
        # Nothing is known of orders_service there, so the service logs in as the URL's role.
        export_line SPIN_VARIABLE_PG_USER "$url_user"
        export_line SPIN_VARIABLE_PG_PASSWORD "$url_password"
        [ -z "${PG_SERVICE_PASSWORD:-}" ] || export_line PG_SERVICE_PASSWORD "$PG_SERVICE_PASSWORD"
    else
        export_line SPIN_VARIABLE_PG_USER orders_service
        export_line SPIN_VARIABLE_PG_PASSWORD "$service_password"
        export_line PG_SERVICE_PASSWORD "$service_password"
        # For tests alone; the service never has it.
        export_line PG_SUPERUSER_URL "postgres://postgres:$superuser_password@127.0.0.1:$pg_port/orders"
    fi
}

own() {
    local name
    for name in REDIS_URL DATABASE_URL; do
        case $name in REDIS_URL) redis_is_external ;; *) pg_is_external ;; esac || continue
        say "$name is set and ignored: this uses stores of its own only"
        echo "unset $name"
    done
    # The password of that database's role; our own comes with `env`.
    echo "unset PG_SERVICE_PASSWORD"
}

# ---- commands

up() {
    install_missing
    if redis_is_external; then say "Redis: REDIS_URL is set, nothing to start"; else redis_up; fi
    if pg_is_external; then say "PostgreSQL: DATABASE_URL is set, nothing to start"; else pg_up; fi
}

migrate() {
    up
    if ! pg_is_external && ! has_pg; then
        compose exec -T -e "DATABASE_URL=postgres://orders_owner:$owner_password@127.0.0.1:5432/orders" postgres \
            sh /order/scripts/migrate.sh
        return
    fi
    if pg_is_external; then
        command -v psql >/dev/null || scripts/install.sh postgresql-client || true
        scripts/migrate.sh
    else
        DATABASE_URL=$own_database_url PG_SERVICE_PASSWORD=$service_password scripts/migrate.sh
    fi
}

down() {
    redis_down
    pg_down
    if [ -e "$local_dir/compose" ]; then compose down >&2 && rm -f "$local_dir/compose"; fi
}

clean() {
    local compose_used=
    [ ! -e "$local_dir/compose" ] || compose_used=1
    down
    if [ -n "$compose_used" ]; then compose down --volumes >&2; fi
    if [ -L "$pg_link" ]; then rm -rf "$(readlink "$pg_link")"; fi
    rm -rf "$local_dir"
}

status() {
    local port
    if redis_is_external; then echo "Redis       REDIS_URL, not ours"
    elif redis_is_ours; then echo "Redis       runs on port $redis_port"
    else echo "Redis       does not run"; fi
    if pg_is_external; then echo "PostgreSQL  DATABASE_URL, not ours"
    elif port=$(running_pg_port); then echo "PostgreSQL  runs on port $port"
    else echo "PostgreSQL  does not run"; fi
    if [ -e "$local_dir/compose" ]; then compose ps; fi
}

locked() {
    # One at a time; the daemons are started without this descriptor, or they would keep the lock.
    exec 9>"$local_dir/lock"
    if command -v flock >/dev/null; then flock -w 300 9 || fail "another run holds .local/lock"; fi
    "$@"
}

load_passwords
case ${1:-} in
    up | migrate | down | clean) locked "$1" ;;
    status) status ;;
    env) redis_env; pg_env ;;
    own) own ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2; exit 2 ;;
esac
