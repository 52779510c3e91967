# shellcheck shell=bash disable=SC2154
# The stores' addresses, from and into the environment: REDIS_URL, DATABASE_URL, SPIN_VARIABLE_*. Part of scripts/services.sh.

# A shell that has evaluated `env` has our own URLs, perhaps with an old password: they still mean the local stores.
redis_is_external() { [ -n "${REDIS_URL:-}" ] && [ "$REDIS_URL" != "$own_redis_url" ]; }
pg_is_external() { [ -n "${DATABASE_URL:-}" ] && [[ $DATABASE_URL != postgres://orders_owner:*@127.0.0.1:$pg_port/orders ]]; }

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
    export_line SPIN_VARIABLE_DOORBELL_ADDRESS "$url"
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
        # orders_service may not exist there, so the service logs in as the URL's role.
        export_line SPIN_VARIABLE_PG_USER "$url_user"
        export_line SPIN_VARIABLE_PG_PASSWORD "$url_password"
        [ -z "${PG_SERVICE_PASSWORD:-}" ] || export_line PG_SERVICE_PASSWORD "$PG_SERVICE_PASSWORD"
    else
        export_line SPIN_VARIABLE_PG_USER orders_service
        export_line SPIN_VARIABLE_PG_PASSWORD "$service_password"
        export_line PG_SERVICE_PASSWORD "$service_password"
        # Only for tests; the service never has it.
        export_line PG_SUPERUSER_URL "postgres://postgres:$superuser_password@127.0.0.1:$pg_port/orders"
        export_line PG_DATA "$pg_link"
    fi
}

own() {
    local name
    for name in REDIS_URL DATABASE_URL; do
        case $name in REDIS_URL) redis_is_external ;; *) pg_is_external ;; esac || continue
        say "$name is set and ignored: this uses stores of its own only"
        echo "unset $name"
    done
    # The password of that database's role; `env` prints ours.
    echo "unset PG_SERVICE_PASSWORD"
}
