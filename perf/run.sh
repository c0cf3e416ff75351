#!/usr/bin/env bash
# Measures the product: builds it in release mode, sends numbered lines through it and, where installed, through its peers
# (perf/peers.sh installs three of them), and prints one table. Needs nothing but cargo; asks for nothing; takes some minutes.
#
#   bash perf/run.sh [--keep] [options of tailwater-perf run, such as --rounds 5 --lines 10000000 --only latency,idle --data all]
#
# Results are also written to ~/.cache/tailwater/perf/, with --keep to perf/results/. TMPDIR chooses the disk: 4 GB for a million
# lines. A peer of the PATH takes part; what perf/peers.sh made comes after it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/tailwater"
export PATH="$HOME/.cargo/bin:$PATH:$cache/peers/bin:/usr/sbin"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"

results="$cache/perf"
arguments=()
for word in "$@"; do
    if [ "$word" = "--keep" ]; then results=perf/results; else arguments+=("$word"); fi
done
mkdir -p "$results"

commit="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || commit="$commit with changes"

cargo build --release --locked --quiet -p tailwater -p tailwater-perf
release="$CARGO_TARGET_DIR/release"
for peer in rsyslogd syslog-ng telegraf; do
    command -v "$peer" >/dev/null || echo "$peer is not installed and not in this run; perf/peers.sh installs it" >&2
done
exec "$release/tailwater-perf" run --tailwater "$release/tailwater" --scenarios perf/scenarios --commit "$commit" \
    --keep "$results/$(date -u +%Y-%m-%dT%H%M%SZ)" "${arguments[@]}"
