# shellcheck shell=bash disable=SC2154
# Redis: start it, find out whether the one that runs is ours, stop it. Part of scripts/services.sh.

redis_dir=$local_dir/redis
# Its working folder. It shows that the server is ours, and of the chosen kind.
redis_data=$redis_dir${VALKEY:+/valkey-$VALKEY}

has_redis() { command -v redis-server >/dev/null && command -v redis-cli >/dev/null; }

our_redis_dir() { (cd "$redis_data" 2>/dev/null && pwd -P); }
redis_is_ours() {
    local dir
    has_redis && dir=$(our_redis_dir) || return 1 # without a folder, "" would match a Redis that does not run
    [ "$(within 2 redis-cli -h 127.0.0.1 -p "$redis_port" config get dir 2>/dev/null | tail -n 1)" = "$dir" ]
}

redis_version() { # for example: Redis 7.0.15, Valkey 9.1.2
    within 2 redis-cli -h 127.0.0.1 -p "$redis_port" info server | tr -d '\r' |
        awk -F: '/^redis_version:/ { is = "Redis " $2 } /^valkey_version:/ { is = "Valkey " $2 } END { print is }'
}

redis_pids() { # on all ports, or on one
    local file pid
    for file in "$redis_dir"/redis-${1:-*}.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        [[ $pid =~ ^[0-9]+$ ]] && [[ $(command_of "$pid") == *redis-server*:"$(basename "$file" .pid | cut -d- -f2)"* ]] && echo "$pid"
    done
    return 0
}

redis_up() {
    if ! has_redis; then
        [ -z "${VALKEY:-}" ] || fail "redis-cli is missing: install it (Debian, Ubuntu: apt-get install redis-tools)"
        compose_up redis Redis redis-server
        return
    fi
    mkdir -p "$redis_data"
    local pid
    for pid in $(redis_pids); do kill -CONT "$pid" 2>/dev/null || true; done # a test may have left it stopped
    if redis_is_ours; then say "$(redis_version) runs on port $redis_port"; return; fi
    redis_down "$redis_port" # another version
    port_answers "$redis_port" &&
        fail "port $redis_port is taken by something that is not this checkout's Redis; free it or set REDIS_PORT"
    redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$redis_data" --save '' --appendonly no \
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
    local version
    version=$(redis_version)
    [[ $version == "${VALKEY:+Valkey $VALKEY.}"* ]] || fail "$version started in place of Valkey $VALKEY"
    say "$version started on port $redis_port"
}

redis_down() { # on all ports, or on one
    local pid
    for pid in $(redis_pids "$@"); do
        kill -CONT "$pid" 2>/dev/null || true
        end Redis "$pid" TERM
    done
    rm -f "$redis_dir"/redis-${1:-*}.pid
}

# The intake needs XPENDING with IDLE and other stream commands, which came with 6.2. Serving HTTP needs none of them.
check_redis_version() {
    local url=$own_redis_url version
    if redis_is_external; then url=$REDIS_URL; fi
    # If the server needs more than the URL has, or a tool is missing, this check is skipped; the intake's log reports the error.
    version=$(within 5 redis-cli -u "$url" INFO server 2>/dev/null | tr -d '\r' | sed -n 's/^redis_version://p') || true
    case $version in
        [0-5].* | 6.[01].*) say "this Redis is $version; the intake needs 6.2 or newer and places no order from the stream" ;;
    esac
}
