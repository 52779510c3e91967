# shellcheck shell=bash
# What every command in scripts/ begins with, sourced. It has to be readable for bash 3.2, which macOS has.

# An empty array under `set -u` is an error before 4.4, and mapfile came with 4.0.
case ${BASH_VERSION:-0} in
    [0-3].* | 4.[0-3].*)
        echo "$(basename "$0" .sh): bash 4.4 or newer is needed, and this is $BASH_VERSION; on macOS: brew install bash" >&2
        exit 1
        ;;
esac

# No proxy is asked for a service on this machine. curl reads the one spelling, some others only the other.
: "${no_proxy:=${NO_PROXY:-}}"
case ,$no_proxy, in
    *,127.0.0.1,*) ;;
    *) no_proxy=127.0.0.1,localhost,::1${no_proxy:+,$no_proxy} ;;
esac
export no_proxy NO_PROXY=$no_proxy
