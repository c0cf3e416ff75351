#!/usr/bin/env bash
# Installs the programs that Tailwater is compared with, from Debian. Starts none of them.
set -euo pipefail
command -v apt-get >/dev/null || { echo "perf/peers.sh: knows Debian and its relatives only: install rsyslog yourself" >&2; exit 1; }
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
export DEBIAN_FRONTEND=noninteractive
# Packages of services start them when they are installed; this policy says no for as long as the installation takes.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends rsyslog
PATH="$PATH:/usr/sbin" rsyslogd -v | head -1
