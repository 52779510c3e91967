#!/usr/bin/env bash
# What the commands do on other people's machines: an old bash, other line ends, a proxy, no kubectl, containers instead of
# stores, another checkout's passwords. It needs neither a service nor stores; small scripts play the programs that are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
suite=machines
. tests/assertions.sh

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
unset REDIS_URL DATABASE_URL PG_SERVICE_PASSWORD BASE_URL
export ORDER_LOCAL_DIR=$folder/local
played=$folder/bin
mkdir "$played"
# A program that is first on the PATH of `with_played`; the script comes from standard input.
play() { { echo '#!/bin/sh'; cat; } >"$played/$1"; chmod +x "$played/$1"; }
with_played() { PATH=$played:$PATH "$@"; }
scripts/lib/venv.sh .local/verify-deploy/venv deploy/check/requirements.txt
python=$PWD/.local/verify-deploy/venv/bin/python

begin "bash 3.2 is refused with one sentence"
# shellcheck disable=SC2016
refused bash -c 'BASH_VERSION="3.2.57(1)-release"; . scripts/lib/start.sh; echo "went on"' scripts/run.sh
equal "$said" "run: bash 4.4 or newer is needed, and this is 3.2.57(1)-release; on macOS: brew install bash"
# shellcheck disable=SC2016
done_by bash -c 'BASH_VERSION="4.4.20(1)-release"; . scripts/lib/start.sh; echo "went on"' scripts/run.sh
for script in scripts/*.sh tests/commands.sh; do
    case $script in scripts/upgrade.sh) continue ;; esac # begins with another script
    head -n 1 "$script" | grep -q bash || continue
    # Before anything that bash 3.2 cannot do.
    code=$(grep -v '^#' "$script" | grep -v '^$' | sed -n '1,/lib\/start.sh/p')
    contains "$code" "lib/start.sh"
    grep -qvE '^(set -euo pipefail|root=.*|cd ".*"|\. .*lib/start.sh"?)$' <<<"$code" && fail "$script does something before scripts/lib/start.sh: $code"
done

begin "a checkout with core.autocrlf has the same bytes as any other"
git clone --quiet --config core.autocrlf=true . "$folder/clone"
equal "$(git -C "$folder/clone" ls-files --eol | grep -c 'w/crlf\|w/mixed')" 0
cmp fuzz/seeds/record/whole "$folder/clone/fuzz/seeds/record/whole"

begin "calls to this machine bypass the proxy"
node -e '
    const server = require("http").createServer((request, response) => response.end("here"));
    server.listen(0, "127.0.0.1", () => console.log(server.address().port));
' >"$folder/port" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 100); do
    [ ! -s "$folder/port" ] || break
    sleep 0.1
done
url=http://127.0.0.1:$(cat "$folder/port")
proxied=(env -u no_proxy -u NO_PROXY http_proxy=http://127.0.0.1:9 HTTP_PROXY=http://127.0.0.1:9)
# shellcheck disable=SC2016
call='import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())'
refused "${proxied[@]}" python3 -c "$call" "$url"
done_by "${proxied[@]}" bash -c '. scripts/lib/start.sh; python3 "$@"' scripts/run.sh -c "$call" "$url"
equal "$said" here
equal "$(env -u no_proxy NO_PROXY=example.org bash -c '. scripts/lib/start.sh; . scripts/lib/start.sh; echo "$no_proxy $NO_PROXY"')" \
    "127.0.0.1,localhost,::1,example.org 127.0.0.1,localhost,::1,example.org"
scripts/lib/npm.sh
said=$(BASE_URL=$url "${proxied[@]}" scripts/newman.sh --folder "Not found" 2>&1) || true # every assertion fails
contains "$said" "200 OK"
contains_not "$said" "ECONNREFUSED"
kill "$server"

begin "the collection runs on newman 5 and 6.0"
# These have no pm.execution; everything else that the scripts call was tried on both.
contains_not "$(cat postman/order.postman_collection.json)" pm.execution

begin "without kubectl, where PyPI has none, the refusal names what to install"
play kubectl <<<'exit 1'
play uname <<<'echo Linux aarch64'
mkdir -p "$folder/clone/.local/verify-deploy"
ln -s "$PWD/.local/verify-deploy/venv" "$folder/clone/.local/verify-deploy/venv"
refused with_played "$folder/clone/scripts/verify-deploy.sh"
contains "$said" "kubectl 1.27 or newer is missing"
rm "$played/kubectl" "$played/uname"
[ ! -x .local/verify-deploy/kubectl ] || ln -s "$PWD/.local/verify-deploy/kubectl" "$folder/clone/.local/verify-deploy/kubectl"

begin "a secrets.env that kubectl would read differently from its author is refused, and no value is shown"
secrets=$folder/clone/deploy/secrets/secrets.env
done_by make --no-print-directory -C "$folder/clone" secrets
equal "$(grep -c '^[A-Z_]*=.' "$secrets")" 5
digest=$(printf 'a%.0s' $(seq 64))
cp "$secrets" "$folder/good.env"
# A sed script, and the reason for the refusal.
while IFS='|' read -r script why; do
    sed "$script" "$folder/good.env" >"$secrets"
    refused env PYTHONPATH=deploy PYTHONDONTWRITEBYTECODE=1 "$python" -m check.secrets_env "$secrets" deploy/secrets/secrets.env.example
    contains "$said" "$why"
    contains_not "$said" "$(sed -n 's/^REDIS_PASSWORD=//p' "$folder/good.env")"
    contains_not "$said" "$digest"
done <<TEXT
s/^CLIENTS=/&"web:$digest"/|CLIENTS is quoted
s/^CLIENTS=/&'web:$digest'/|CLIENTS is quoted
s/^CLIENTS=/&web:$digest,shop:$digest/|CLIENTS has an entry 1 that is not name:sha256
s/^CLIENTS=/&web:$digest shop:$digest/|CLIENTS has the token of an earlier entry
s/^CLIENTS=/&a-token/|CLIENTS has an entry 1
s/^REDIS_PASSWORD=\(.*\)/REDIS_PASSWORD="\1"/|REDIS_PASSWORD is quoted
s/^REDIS_PASSWORD=.*/& /|something other than letters and digits
s/^REDIS_PASSWORD=/REDIS_PASSWORD= /|something other than letters and digits
s/^REDIS_PASSWORD=/REDIS_PASSWORD =/|is not NAME=value
s/^REDIS_PASSWORD=/export &/|is not NAME=value
s/^REDIS_PASSWORD=.*/REDIS_PASSWORD=/|REDIS_PASSWORD is empty
s/^REDIS_PASSWORD=.*/REDIS_PASSWORD/|REDIS_PASSWORD has no value
s/\$/\r/|ends in CR LF
/^INSTALLATION/d|INSTALLATION is missing
\$p|CLIENTS exists twice
TEXT
sed "s/^CLIENTS=/&web:$digest shop-2:${digest//a/b}/" "$folder/good.env" >"$secrets"
done_by env PYTHONPATH=deploy PYTHONDONTWRITEBYTECODE=1 "$python" -m check.secrets_env "$secrets" deploy/secrets/secrets.env.example
sed "s/^CLIENTS=/&\"web:$digest\"/" "$folder/good.env" >"$secrets"
refused make --no-print-directory -C "$folder/clone" verify-deploy
contains "$said" "CLIENTS is quoted"

begin "the API server refuses the secret of another checkout, which is another installation"
kubectl=$(command -v kubectl || echo .local/verify-deploy/kubectl)
type_of() { "$kubectl" kustomize "$folder/clone/deploy/secrets" | sed -n 's/^type: //p'; }
cp "$folder/good.env" "$secrets"
first=$(type_of)
sed "s/^CLIENTS=/&web:$digest/" "$folder/good.env" >"$secrets"
equal "$(type_of)" "$first" # other clients are the same installation
rm "$secrets"
done_by make --no-print-directory -C "$folder/clone" secrets
contains "$(type_of)" "order/"
[ "$(type_of)" != "$first" ] || fail "both are of type $first"
# A file of an earlier release has none, and gets it.
sed -i.before '/^INSTALLATION/d' "$secrets"
done_by make --no-print-directory -C "$folder/clone" secrets
contains "$said" "added to it: INSTALLATION"
equal "$(grep -c '^INSTALLATION=.' "$secrets")" 1

begin "the doorbell rings until it is heard, within its minute"
"$python" -c '
import sys, yaml
job = yaml.safe_load(open("deploy/components/intake/doorbell.yaml"))["spec"]["jobTemplate"]["spec"]
(container,) = job["template"]["spec"]["containers"]
assert container["command"] == ["sh", "-ec"] and job["activeDeadlineSeconds"] < 60
print(container["args"][0])
' >"$folder/ring.sh"
export RINGS=$folder/rings
# Refused twice, then without a listener, then with two.
play redis-cli <<'SH'
echo ring >>"$RINGS"
case $(wc -l <"$RINGS") in
    [12]) echo "Could not connect to Redis" >&2; exit 1 ;;
    3) echo 0 ;;
    *) echo 2 ;;
esac
SH
play sleep <<<':'
done_by with_played env REDIS_URL=redis://order-redis:6379 sh -ec "$(cat "$folder/ring.sh")"
contains "$said" "heard by 0"
contains "$said" "heard by 2"
equal "$(wc -l <"$RINGS" | tr -d ' ')" 4
# A clock that advances by twenty seconds at each look.
play date <<'SH'
echo tick >>"$RINGS.clock"
echo $(($(wc -l <"$RINGS.clock") * 20))
SH
play redis-cli <<<'exit 1'
refused with_played env REDIS_URL=redis://order-redis:6379 sh -ec "$(cat "$folder/ring.sh")"
rm "$played"/*

begin "PostgreSQL in a container takes new passwords"
# The tools of a machine without PostgreSQL, and without the right to install it.
mkdir "$folder/tools"
ln -s /usr/bin/* /bin/* "$folder/tools" 2>/dev/null || true # one of the two may be the other
ln -sf "$BASH" "$folder/tools/bash"
rm -f "$folder"/tools/{postgres,docker,podman}
without_postgres() { PATH=$played:$folder/tools "$@"; }
play find <<<'exit 0'
play apt-get <<<'exit 1'
play sudo <<<'exit 1'
play docker <<<'exit 1'
refused without_postgres env REDIS_URL=redis://127.0.0.1:9 scripts/services.sh migrate
contains "$said" "install Docker or Podman with compose"
for engine in docker podman; do
    rm -rf "$ORDER_LOCAL_DIR"
    export CALLS=$folder/calls-$engine
    : >"$CALLS"
    play docker <<<'exit 1'
    play "$engine" <<'SH'
echo "$*" >>"$CALLS"
case " $* " in *" psql "*) cat >>"$CALLS" ;; esac
SH
    done_by without_postgres env REDIS_URL=redis://127.0.0.1:9 scripts/services.sh migrate
    contains "$said" "using $engine compose"
    password=$(sed -n 's/^PG_OWNER_PASSWORD=//p' "$ORDER_LOCAL_DIR/passwords")
    # Set before the migration logs in with it.
    contains "$(tr '\n' ' ' <"$CALLS")" "ALTER ROLE orders_owner PASSWORD '$password';"
    equal "$(grep -n 'ALTER ROLE orders_owner\|migrate.sh' "$CALLS" | sed 's/^[0-9]*://; s/ .*//' | tr '\n' ' ')" "ALTER compose "
done
rm "$played"/*

begin "a Redis that is too old for the intake is named"
play redis-cli <<<'printf "# Server\r\nredis_version:%s\r\n" "$REDIS_IS"'
play psql <<<'exit 1' # nothing is migrated here
for version in 5.0.14 6.0.16 6.2.0 7.0.15 10.0.1; do
    said=$(REDIS_IS=$version with_played env REDIS_URL=redis://127.0.0.1:9 DATABASE_URL=postgres://127.0.0.1:9/x scripts/services.sh up 2>&1)
    case $version in
        [56].0.*) contains "$said" "this Redis is $version; the intake needs 6.2 or newer" ;;
        *) contains_not "$said" "6.2" ;;
    esac
done

echo "machines: all passed"
