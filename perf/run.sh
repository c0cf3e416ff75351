#!/usr/bin/env bash
# Measures the product: builds it in release mode, sends numbered lines through it and through its installed peers
# (perf/peers.sh installs three of them), and prints one table. Needs only cargo, asks no questions, takes some minutes.
#
#   bash perf/run.sh [--keep] [--docs] [options of tailwater-perf run]
#
# Examples of options: --rounds 5, --lines 10000000, --only latency,idle, --data json. An unknown option prints the list. Results
# are also written to ~/.cache/tailwater/perf/; with --keep to perf/results/ instead, with --docs also into docs/performance.md.
# TMPDIR selects the disk, which needs 8 GB. A peer installed by perf/peers.sh is preferred to one on the PATH, because it has the
# modules that the scenarios need.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/tailwater"
export PATH="$HOME/.cargo/bin:$cache/peers/bin:$PATH:/usr/sbin"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"

results="$cache/perf" docs=""
arguments=()
for word in "$@"; do
    case "$word" in
        --keep) results=perf/results ;;
        --docs) results=perf/results docs=docs/performance.md ;;
        *) arguments+=("$word") ;;
    esac
done
mkdir -p "$results"
result="$results/$(date -u +%Y-%m-%dT%H%M%SZ)"

commit="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || commit="$commit with changes"

cargo build --release --locked --quiet -p tailwater -p tailwater-perf
release="$CARGO_TARGET_DIR/release"
for peer in rsyslogd syslog-ng telegraf; do
    command -v "$peer" >/dev/null || echo "$peer is not installed, so it is not measured; perf/peers.sh installs it" >&2
done
"$release/tailwater-perf" run --tailwater "$release/tailwater" --scenarios perf/scenarios \
    --commit "$commit, $(date -u +%Y-%m-%d)" --keep "$result" "${arguments[@]}"

if [ -n "$docs" ]; then
    awk -v table="$result.md" '
        /<!-- the last run/ { print; print ""; while ((getline line < table) > 0) if (line !~ /^# /) print line; print ""; skip = 1 }
        /<!-- end of the last run -->/ { skip = 0 }
        !skip' "$docs" >"$docs.new"
    mv "$docs.new" "$docs"
fi
