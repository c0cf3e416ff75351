#!/usr/bin/env bash
# Installs servers that tests run against, by the ordinary client of the registry that has them, and prints where they are as
# NAME=value lines. What is there already is only looked at, so tests call this before each start.
#
#   bash tests/services/install.sh opensearch [SERVER...]
#
# Each server has a file SERVER.sh beside this one, with a function install_SERVER. Everything is kept in
# ${XDG_CACHE_HOME:-$HOME/.cache}/tailwater/services, complete or not at all; two callers at once wait for each other.
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
    have sudo || die "neither root nor sudo, to run: $*"
    sudo -n --preserve-env=DEBIAN_FRONTEND "$@"
}

# package PACKAGE...: installs from the system's own package registry.
package() {
    have apt-get || die "needs $*, and knows apt-get only: install it and run this again"
    say "installing $*"
    if [ -z "${updated:-}" ]; then as_root apt-get update -qq; updated=1; fi
    as_root apt-get install -y -qq --no-install-recommends "$@"
}

# installed NAME: sets `home` to the folder of that name and says whether it is complete. If not, `new` is an empty one beside
# it to be filled, and `keep` makes it the folder of that name.
installed() {
    home="$services/$1"
    [ -e "$home/.complete" ] && return
    new="$services/.new-$1"
    rm -rf "$new" "$home"
    mkdir -p "$new"
    return 1
}

keep() {
    # A server may run as another user than the one who installed it.
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
    [ -f "$folder/$server.sh" ] || die "no server is called $server"
    # shellcheck source=/dev/null
    . "$folder/$server.sh"
    "install_$server"
done
