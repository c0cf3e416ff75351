#!/usr/bin/env bash
# The engine and everything that is read from disk, under the tools: AddressSanitizer over the tests of what is unsafe or maps
# memory, libFuzzer with AddressSanitizer over the targets of tests/fuzz, Miri where a toolchain has it. (Loom's models, the
# corpora and the model of the log run with every `cargo test`.)
#
#   tests/tools.sh                        what CI runs: all of it, each target for FUZZ_SECONDS (default 20)
#   tests/tools.sh asan                   the tests under AddressSanitizer
#   tests/tools.sh fuzz 600 [TARGET...]   targets for ten minutes each; with FUZZ_KEEP set, a run without a failure copies the
#                                         inputs that reach something new to tests/fuzz/corpus, to be reviewed
#   tests/tools.sh minimise [TARGET...]   the corpora without what adds nothing
#   tests/tools.sh miri                   the ring, batches and the log's codecs under Miri
#
# The sanitizers of the pinned toolchain are unlocked by RUSTC_BOOTSTRAP, so no second toolchain is needed. cargo-fuzz works on
# the same folder: RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz --features libfuzzer frame
set -euo pipefail

# Called by cargo in place of the compiler for the crates of this workspace: these are checked and looked into. What they depend
# on is shared with the ordinary tests, so that no second tree of two hundred crates is built.
command="${1:-}"
if [ "${command##*/}" = rustc ]; then
    case " $* " in
        *" --crate-name build_script_"* | *" --crate-name ___ "*) exec "$@" ;;
        # Tests are run, not fuzzed, and for seconds: optimising them and counting their edges took longer than they do.
        *" --test "*) RUSTC_BOOTSTRAP=1 exec "$@" -Zsanitizer=address ;;
    esac
    # Two thirds of the targets spend their time in the engine, which is the smaller part to build.
    level="${0##*-O}"
    case " $* " in *" --crate-name tailwater_shards "*) level=1 ;; esac
    RUSTC_BOOTSTRAP=1 exec "$@" -Zsanitizer=address "-Copt-level=$level" -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
export CARGO_TERM_COLOR=never PATH="$HOME/.cargo/bin:$PATH"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tailwater/target}"

TARGETS="frame segment log checkpoint outputs manifest configuration json_lines expression"
# What is unsafe, and what is built on it.
UNSAFE_TESTS="ring:: batch:: scan:: lane:: wal:: glommio_env::"
CORPORA=tests::every_corpus
UNSAFE_BUILD=(--locked -p tailwater-shards -p tailwater-fuzz --features tailwater-fuzz/libfuzzer --lib)
# Inputs are small: a target that needs more memory than this takes it for something that is not there.
LIMITS="-rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=20 -max_len=4096"
CORPUS=tests/fuzz/corpus
BIN="$CARGO_TARGET_DIR/debug"
JOBS="$(nproc)"

say() { printf '== %s\n' "$*"; }

# Called from a place that is the same for each clone: its path is part of what cargo tells builds apart by, so that each clone
# would leave a tree of its own behind.
# Its sum is in its name, so that other flags make another build.
WRAPPER="$CARGO_TARGET_DIR/sanitized-rustc-$(cksum <tests/tools.sh | cut -d ' ' -f 1)-O"
# How far the product is optimised for fuzzing; the engine always is. Level 1 takes four times as long to build and runs two and a half times as fast: worth it
# for minutes of fuzzing, not for seconds.
LEVEL=0

sanitized() {
    mkdir -p "$CARGO_TARGET_DIR"
    [ -x "$WRAPPER$LEVEL" ] || install -m 755 tests/tools.sh "$WRAPPER$LEVEL"
    RUSTC_WORKSPACE_WRAPPER="$WRAPPER$LEVEL" ASAN_OPTIONS=detect_leaks=0 cargo "$@"
}

# Everything at once: what the two need of their dependencies is the same then, and nothing is built twice.
prepare() {
    sanitized build --locked --quiet -p tailwater-shards -p tailwater-fuzz --features tailwater-fuzz/libfuzzer --bins --tests
}

# Whether a binary has the sanitizer in it, and code of its own that registers with it: without either nothing is checked.
is_sanitized() {
    local symbols
    symbols="$(nm "$1")"
    grep -q ' T __asan_report_load8$' <<<"$symbols" && grep -q ' t asan.module_ctor' <<<"$symbols"
}

# Each binary of the build is sanitized, and each word chooses a test in one of them: what is called otherwise now would go
# unchecked without a word.
assert_checks() {
    local binary word binaries
    binaries="$(sanitized test "${UNSAFE_BUILD[@]}" --no-run 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')"
    [ -n "$binaries" ] || { say "there is no test binary"; return 1; }
    for binary in $binaries; do
        is_sanitized "$binary" || { say "$binary was built without AddressSanitizer"; return 1; }
    done
    for word in "$@"; do
        for binary in $binaries; do ASAN_OPTIONS=detect_leaks=0 "$binary" --list "$word"; done | grep ': test$' >/dev/null ||
            { say "no test is called $word any more"; return 1; }
    done
}

asan() {
    say "AddressSanitizer: the corpora, $UNSAFE_TESTS"
    prepare
    # shellcheck disable=SC2086
    assert_checks $UNSAFE_TESTS $CORPORA
    # The driving of the executor is about time, and slow under anything.
    # shellcheck disable=SC2086
    sanitized test --quiet "${UNSAFE_BUILD[@]}" -- $UNSAFE_TESTS $CORPORA --skip glommio_env::tests::drive
}

# Runs one target; everything new goes into the first folder.
fuzz_one() {
    local seconds="$1" name="$2" found="$3" dictionary="tests/fuzz/dictionaries/$2.dict" log
    log="$found/log-$name"
    mkdir -p "$found/$name"
    local arguments=("-max_total_time=$seconds" "-artifact_prefix=$found/$name-")
    [ -f "$dictionary" ] && arguments+=("-dict=$dictionary")
    # shellcheck disable=SC2086
    if ASAN_OPTIONS=detect_leaks=0 "$BIN/$name" $LIMITS "${arguments[@]}" "$found/$name" "$CORPUS/$name" >"$log" 2>&1; then
        printf '   %-14s %s\n' "$name" "$(grep -E '^Done ' "$log" || tail -n 1 "$log")"
    else
        tail -n 60 "$log"
        printf '   %s FAILED; the input is beside %s; replay it with: cargo run -p tailwater-fuzz --bin %s -- FILE\n' \
            "$name" "$log" "$name"
        return 1
    fi
}

# A build that cannot find the canary finds nothing.
canary() {
    local found="$1"
    mkdir -p "$found/canary"
    if ASAN_OPTIONS=detect_leaks=0 "$BIN/canary" -max_total_time=60 -max_len=64 "-artifact_prefix=$found/canary-" \
        "$found/canary" >"$found/log-canary" 2>&1; then
        say "the canary was not found: this build is blind"
        return 1
    fi
    grep -q 'the canary was found' "$found/log-canary" || { tail -n 30 "$found/log-canary"; return 1; }
}

fuzz() {
    local seconds="$1" found failed=0 name keep
    shift
    say "libFuzzer: ${*:-$TARGETS}, $seconds s each, $JOBS at a time"
    prepare
    found="$(mktemp -d)"
    canary "$found"
    # shellcheck disable=SC2086
    for name in ${*:-$TARGETS}; do
        while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n || failed=1; done
        fuzz_one "$seconds" "$name" "$found" &
    done
    while [ -n "$(jobs -p)" ]; do wait -n || failed=1; done
    if [ "$failed" -eq 0 ]; then
        keep="${FUZZ_KEEP:-}"
        if [ -n "$keep" ]; then
            # shellcheck disable=SC2086
            for name in ${*:-$TARGETS}; do cp -n "$found/$name"/* "$CORPUS/$name/" 2>/dev/null || true; done
        fi
        rm -rf "$found"
    fi
    return "$failed"
}

minimise() {
    local name aside
    prepare
    # shellcheck disable=SC2086
    for name in ${*:-$TARGETS}; do
        aside="$(mktemp -d)"
        # shellcheck disable=SC2086
        ASAN_OPTIONS=detect_leaks=0 "$BIN/$name" $LIMITS -merge=1 "$aside" "$CORPUS/$name" 2>&1 | tail -n 1
        rm -f "$CORPUS/$name"/*
        cp "$aside"/* "$CORPUS/$name/"
        rm -rf "$aside"
    done
}

miri() {
    if ! cargo miri --version >/dev/null 2>&1; then
        say "Miri is not in this toolchain: the islands are not run under it"
        return 0
    fi
    say "Miri: ring, batches, the log's codecs"
    cargo miri test --locked -p tailwater-shards --lib -- ring:: batch:: wal::tests::frames
}

case "${1:-all}" in
    asan) asan ;;
    fuzz) shift; LEVEL=1; fuzz "${@:-20}" ;;
    minimise) shift; LEVEL=1; minimise "$@" ;;
    miri) miri ;;
    all) asan; fuzz "${FUZZ_SECONDS:-20}"; miri ;;
    *) sed -n '2,14p' "$0" >&2; exit 64 ;;
esac
