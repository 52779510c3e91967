# shellcheck shell=bash
# The start of every command in scripts/, sourced. bash 3.2, which macOS has, must be able to read it.

# Before 4.4 an empty array is an error under `set -u`; before 4.0 there is no mapfile.
case ${BASH_VERSION:-0} in
    [0-3].* | 4.[0-3].*)
        echo "$(basename "$0" .sh): bash 4.4 or newer is needed, and this is $BASH_VERSION; on macOS: brew install bash" >&2
        exit 1
        ;;
esac

# No proxy for services on this machine. curl reads one spelling, some other programs only the other.
: "${no_proxy:=${NO_PROXY:-}}"
case ,$no_proxy, in
    *,127.0.0.1,*) ;;
    *) no_proxy=127.0.0.1,localhost,::1${no_proxy:+,$no_proxy} ;;
esac
export no_proxy NO_PROXY=$no_proxy
