#!/usr/bin/env bash
# Runs the engine and the parsers of on-disk data under sanitizers and fuzzers: AddressSanitizer for the tests of code that is
# unsafe or maps memory, libFuzzer with AddressSanitizer for the targets of tests/fuzz, and Miri if the toolchain has it. (Loom's
# models, the corpora and the model of the write-ahead log run with every `cargo test`.)
#
#   tests/tools.sh                        everything, as in CI; each target for FUZZ_SECONDS (default 20)
#   tests/tools.sh asan                   the tests under AddressSanitizer
#   tests/tools.sh fuzz 600 [TARGET...]   each target for ten minutes; if FUZZ_KEEP is set and nothing fails, inputs that reach
#                                         new code are copied to tests/fuzz/corpus for review
#   tests/tools.sh minimise [TARGET...]   removes inputs from the corpora that add no coverage
#   tests/tools.sh miri                   the ring, batches and the codecs of the write-ahead log under Miri
#
# RUSTC_BOOTSTRAP enables the sanitizers of the pinned toolchain, so no second toolchain is needed. cargo-fuzz works with the
# same folder: RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz --features libfuzzer frame
set -euo pipefail

# Cargo calls this script instead of the compiler for the crates of this workspace, so that these are sanitized and instrumented.
# Dependencies are shared with the ordinary tests, which avoids building two hundred crates a second time.
command="${1:-}"
if [ "${command##*/}" = rustc ]; then
    case " $* " in
        *" --crate-name build_script_"* | *" --crate-name ___ "*) exec "$@" ;;
        # Tests run for seconds and are not fuzzed: optimizing and instrumenting them would take longer than running them.
        *" --test "*) RUSTC_BOOTSTRAP=1 exec "$@" -Zsanitizer=address ;;
    esac
    # Two thirds of the targets spend their time in the engine, which is the smaller part to compile.
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
# Tests of unsafe code, and of the code that uses it.
UNSAFE_TESTS="ring:: batch:: scan:: lane:: wal:: glommio_env::"
CORPORA=tests::every_corpus
UNSAFE_BUILD=(--locked -p tailwater-shards -p tailwater-fuzz --features tailwater-fuzz/libfuzzer --lib)
# Inputs are small: a target that needs more memory than this allocates for data that does not exist.
LIMITS="-rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=20 -max_len=4096"
CORPUS=tests/fuzz/corpus
BIN="$CARGO_TARGET_DIR/debug"
JOBS="$(nproc)"

say() { printf '== %s\n' "$*"; }

# The copy has the same path for every clone: the path is part of cargo's build fingerprint, so otherwise each clone would leave
# a build tree behind.
# The checksum is part of the name, so that changed flags cause a new build.
WRAPPER="$CARGO_TARGET_DIR/sanitized-rustc-$(cksum <tests/tools.sh | cut -d ' ' -f 1)-O"
# Optimization level of the product for fuzzing. The engine is always optimized. Level 1 takes four times as long to build and
# runs two and a half times as fast: useful for minutes of fuzzing, not for seconds.
LEVEL=0

sanitized() {
    mkdir -p "$CARGO_TARGET_DIR"
    [ -x "$WRAPPER$LEVEL" ] || install -m 755 tests/tools.sh "$WRAPPER$LEVEL"
    RUSTC_WORKSPACE_WRAPPER="$WRAPPER$LEVEL" ASAN_OPTIONS=detect_leaks=0 cargo "$@"
}

# Builds both packages at once: they then need the same features of their dependencies, and nothing is built twice.
prepare() {
    sanitized build --locked --quiet -p tailwater-shards -p tailwater-fuzz --features tailwater-fuzz/libfuzzer --bins --tests
}

# Whether a binary contains the sanitizer, and own code that is registered with it. Without either, nothing is checked.
is_sanitized() {
    local symbols
    symbols="$(nm "$1")"
    grep -q ' T __asan_report_load8$' <<<"$symbols" && grep -q ' t asan.module_ctor' <<<"$symbols"
}

# Checks that each binary of the build is sanitized, and that each name selects a test in one of them. Otherwise a renamed test
# would silently not run.
assert_checks() {
    local binary word binaries
    binaries="$(sanitized test "${UNSAFE_BUILD[@]}" --no-run 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')"
    [ -n "$binaries" ] || { say "no test binary was built"; return 1; }
    for binary in $binaries; do
        is_sanitized "$binary" || { say "$binary was built without AddressSanitizer"; return 1; }
    done
    for word in "$@"; do
        for binary in $binaries; do ASAN_OPTIONS=detect_leaks=0 "$binary" --list "$word"; done | grep ': test$' >/dev/null ||
            { say "no test name contains $word any more: update UNSAFE_TESTS or CORPORA in tests/tools.sh"; return 1; }
    done
}

asan() {
    say "AddressSanitizer: the corpora, $UNSAFE_TESTS"
    prepare
    # shellcheck disable=SC2086
    assert_checks $UNSAFE_TESTS $CORPORA
    # The tests that drive the executor depend on time and are too slow under a sanitizer.
    # shellcheck disable=SC2086
    sanitized test --quiet "${UNSAFE_BUILD[@]}" -- $UNSAFE_TESTS $CORPORA --skip glommio_env::tests::drive
}

# Runs one target. New inputs go into the first folder.
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
        printf '   %s FAILED; the input is in the folder of %s; replay it with: cargo run -p tailwater-fuzz --bin %s -- FILE\n' \
            "$name" "$log" "$name"
        return 1
    fi
}

# If a build cannot find the canary, it cannot find other bugs either.
canary() {
    local found="$1"
    mkdir -p "$found/canary"
    if ASAN_OPTIONS=detect_leaks=0 "$BIN/canary" -max_total_time=60 -max_len=64 "-artifact_prefix=$found/canary-" \
        "$found/canary" >"$found/log-canary" 2>&1; then
        say "the canary was not found: this build cannot detect bugs"
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
        say "skipped: this toolchain has no Miri"
        return 0
    fi
    say "Miri: ring, batches, codecs of the write-ahead log"
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
