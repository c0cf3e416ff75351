#!/usr/bin/env bash
# Measures the product: builds it in release mode, sends numbered lines through it and, where installed, through its peers
# (perf/peers.sh installs them), and prints one table. Needs nothing but cargo; asks for nothing.
#
#   bash perf/run.sh [--rounds 3] [--lines 1000000] [--only file_to_file] [--keep] [--note TEXT]
#
# --keep writes perf/results/<time>.json. TMPDIR chooses the disk; it needs four times the input (330 bytes a line).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$HOME/.cargo/bin:$PATH"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tailwater/target}"

arguments=()
for word in "$@"; do
    if [ "$word" = "--keep" ]; then
        mkdir -p perf/results
        arguments+=(--json "perf/results/$(date -u +%Y-%m-%dT%H%M%SZ).json")
    else
        arguments+=("$word")
    fi
done

cargo build --release --locked --quiet -p tailwater -p tailwater-perf
release="$CARGO_TARGET_DIR/release"
PATH="$PATH:/usr/sbin" command -v rsyslogd >/dev/null || echo "rsyslog is not installed: no yardstick in this run (perf/peers.sh)" >&2
exec "$release/tailwater-perf" run --tailwater "$release/tailwater" --scenarios perf/scenarios "${arguments[@]}"
