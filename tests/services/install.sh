#!/usr/bin/env bash
# Installs the servers that tests use, with the ordinary client of the registry that offers them, and prints their locations as
# NAME=value lines. An existing installation is only verified, so tests call this script before each start of a server.
#
#   bash tests/services/install.sh opensearch [SERVER...]
#
# Each server has a file SERVER.sh in this folder, with a function install_SERVER. Everything is installed in
# ${XDG_CACHE_HOME:-$HOME/.cache}/tailwater/services, completely or not at all. Concurrent calls wait for each other.
set -euo pipefail
exec 3>&1 1>&2 </dev/null
export DEBIAN_FRONTEND=noninteractive
folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
services="${XDG_CACHE_HOME:-$HOME/.cache}/tailwater/services"

say() { printf 'tests/services: %s\n' "$*"; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
answer() { printf '%s\n' "$*" >&3; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; return; fi
    have sudo || die "root or sudo is needed to run: $*"
    sudo -n --preserve-env=DEBIAN_FRONTEND "$@"
}

# package PACKAGE...: installs with the system's package manager.
package() {
    have apt-get || die "missing: $*. This script can use only apt-get: install it and run this script again"
    say "installing $*"
    if [ -z "${updated:-}" ]; then as_root apt-get update -qq; updated=1; fi
    as_root apt-get install -y -qq --no-install-recommends "$@"
}

# installed NAME: sets `home` to the folder of that name and returns whether it is complete. If it is not, `new` is an empty
# folder beside it that the caller fills, and `keep` renames it to that name.
installed() {
    home="$services/$1"
    [ -e "$home/.complete" ] && return
    new="$services/.new-$1"
    rm -rf "$new" "$home"
    mkdir -p "$new"
    return 1
}

keep() {
    # A server may run as a different user than the one who installed it.
    chmod -R go+rX "$new"
    : >"$new/.complete"
    mv "$new" "$home"
}

[ "$#" -gt 0 ] || { sed -n '2,9p' "$0"; exit 64; }
mkdir -p "$services"
exec 9>"$services/.lock"
have flock || package util-linux
flock -w 1200 9 || die "another installation has been holding $services/.lock for 20 minutes"
for server in "$@"; do
    [ -f "$folder/$server.sh" ] || die "unknown server $server: there is no tests/services/$server.sh"
    # shellcheck source=/dev/null
    . "$folder/$server.sh"
    "install_$server"
done
