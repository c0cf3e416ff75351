#!/usr/bin/env bash
# Installs the programs with which Tailwater is compared, if a package registry offers them: rsyslog and syslog-ng from Debian,
# Telegraf from the Go registry. Starts none of them. Existing installations are not changed.
#
#   bash perf/peers.sh [rsyslog] [syslog-ng] [telegraf]      without a name: all of them
#
# The two Debian packages conflict with each other, so they are only unpacked, and only their libraries are installed. Everything
# is installed in ${XDG_CACHE_HOME:-$HOME/.cache}/tailwater/peers. perf/run.sh adds the folder's bin/ to its PATH.
set -euo pipefail
exec </dev/null
export DEBIAN_FRONTEND=noninteractive
peers="${XDG_CACHE_HOME:-$HOME/.cache}/tailwater/peers"
mkdir -p "$peers/bin"

say() { printf 'perf/peers.sh: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n --preserve-env=DEBIAN_FRONTEND "$@"; fi; }

# Prints the libraries that a package depends on.
libraries() {
    apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$1" |
        sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p'
}

# unpack PACKAGE: unpacks its files into $peers/PACKAGE and installs its libraries.
unpack() {
    command -v apt-get >/dev/null || die "this script can use only apt-get: install $1 yourself"
    if [ -z "${updated:-}" ]; then as_root apt-get update -qq; updated=1; fi
    # shellcheck disable=SC2046
    as_root apt-get install -y -qq --no-install-recommends $(libraries "$1") >/dev/null
    local new="$peers/.new-$1"
    rm -rf "$new" && mkdir -p "$new"
    (cd "$new" && apt-get download -qq "$1" 2>/dev/null && dpkg -x ./*.deb . && rm ./*.deb)
    rm -rf "${peers:?}/$1" && mv "$new" "$peers/$1"
}

# wrapper NAME LINE...: creates a command in bin/ that replaces itself with the program, so that only the program is measured.
wrapper() {
    local name="$1"; shift
    printf '#!/bin/sh\n' >"$peers/bin/.$name"
    printf '%s\n' "$@" >>"$peers/bin/.$name"
    chmod +x "$peers/bin/.$name" && mv "$peers/bin/.$name" "$peers/bin/$name"
}

rsyslog() {
    [ -x "$peers/bin/rsyslogd" ] && [ -n "$(find "$peers/rsyslog-elasticsearch" -name omelasticsearch.so 2>/dev/null)" ] && return
    say "rsyslog and its output for Elasticsearch from Debian"
    unpack rsyslog
    unpack rsyslog-elasticsearch
    local modules more
    modules="$(dirname "$(find "$peers/rsyslog" -name imfile.so)")"
    more="$(dirname "$(find "$peers/rsyslog-elasticsearch" -name omelasticsearch.so)")"
    wrapper rsyslogd "exec '$peers/rsyslog/usr/sbin/rsyslogd' -M '$modules:$more' \"\$@\""
}

syslog-ng() {
    [ -x "$peers/bin/syslog-ng" ] && [ -n "$(find "$peers/syslog-ng-mod-http" -name libhttp.so 2>/dev/null)" ] && return
    say "syslog-ng and its output for HTTP from Debian"
    unpack syslog-ng-core
    unpack syslog-ng-mod-http
    local root="$peers/syslog-ng-core" modules more core
    modules="$(dirname "$(find "$root" -name libaffile.so)")"
    more="$(dirname "$(find "$peers/syslog-ng-mod-http" -name libhttp.so)")"
    core="$(dirname "$(find "$root" -name 'libsyslog-ng-*.so*' | head -1)")"
    wrapper syslog-ng "export LD_LIBRARY_PATH='$core'" "exec '$root/usr/sbin/syslog-ng' --module-path='$modules:$more' \"\$@\""
    wrapper syslog-ng-ctl "export LD_LIBRARY_PATH='$core'" "exec '$root/usr/sbin/syslog-ng-ctl' \"\$@\""
}

telegraf() {
    local go tags
    tags=custom,inputs.tail,inputs.internal,outputs.file,outputs.discard,outputs.http,outputs.elasticsearch
    tags="$tags,parsers.value,parsers.json_v2,parsers.json,processors.starlark,serializers.influx,serializers.json,serializers.template"
    # A binary that was built with other modules is built again.
    [ -x "$peers/bin/telegraf" ] && [ "$(cat "$peers/telegraf.tags" 2>/dev/null)" = "$tags" ] && return
    go="$(command -v go || echo /usr/local/go/bin/go)"
    [ -x "$go" ] || die "building telegraf needs Go: install Go 1.25 or newer"
    say "building telegraf from the Go registry, which takes some minutes"
    GOBIN="$peers/bin" GOFLAGS=-buildvcs=false GOTOOLCHAIN=auto "$go" install -ldflags \
        '-s -w -X github.com/influxdata/telegraf/internal.Version=1.37.2' -tags "$tags" github.com/influxdata/telegraf/cmd/telegraf@v1.37.2
    printf '%s\n' "$tags" >"$peers/telegraf.tags"
}

[ "$#" -gt 0 ] || set -- rsyslog syslog-ng telegraf
for peer in "$@"; do
    case "$peer" in
        rsyslog | syslog-ng | telegraf) "$peer" ;;
        *) die "unknown peer $peer: use rsyslog, syslog-ng or telegraf" ;;
    esac
done
"$peers/bin/rsyslogd" -v 2>/dev/null | head -1 || true
"$peers/bin/syslog-ng" --version 2>/dev/null | head -1 || true
"$peers/bin/telegraf" --version 2>/dev/null | head -1 || true
