#!/usr/bin/env bash
# Runs every test of the workspace, also on a machine without any tools: installs what the tests need with the system's package
# manager, builds outside the clone, and prints one line of totals at the end. Fails if a test fails or if no test ran. With
# UNCHECKED=refused it also fails if a test reports that it could not check something.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
export DEBIAN_FRONTEND=noninteractive CARGO_TERM_COLOR=never
# File system tools are in directories that are on the PATH of root only.
export PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tailwater/target}"

say() { printf '== %s\n' "$*"; }
die() { printf 'tests/run.sh: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Commands, each with the Debian package that contains it.
NEEDED="cc:build-essential c++:build-essential make:build-essential git:git curl:curl setpriv:util-linux strace:strace
    mount:mount xfs_io:xfsprogs mkfs.ext4:e2fsprogs pip3:python3-pip"

install_packages() {
    local missing=() pair
    for pair in $NEEDED; do
        have "${pair%%:*}" || missing+=("${pair##*:}")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    say "installing ${missing[*]}"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || die "missing packages: ${missing[*]}. Installing them needs root or sudo: install them and run this script again"
        as_root=(sudo -n --preserve-env=DEBIAN_FRONTEND)
    fi
    if have apt-get; then
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" apt-get install -y -qq --no-install-recommends ca-certificates "${missing[@]}"
    elif have dnf; then
        "${as_root[@]}" dnf install -y -q gcc gcc-c++ make git curl util-linux strace xfsprogs e2fsprogs python3-pip
    else
        die "missing packages: ${missing[*]}. This script can use only apt-get or dnf: install them and run this script again"
    fi
    for pair in $NEEDED; do
        have "${pair%%:*}" || die "the command ${pair%%:*} is still missing after installing the package ${pair##*:}"
    done
}

install_rust() {
    if ! have cargo; then
        say "installing the Rust toolchain with rustup"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --no-modify-path --profile minimal --default-toolchain none
    fi
    # rustup reads rust-toolchain.toml and installs that toolchain. A cargo without rustup must be new enough already.
    if have rustup; then
        rustup show active-toolchain >/dev/null 2>&1 || rustup toolchain install
    fi
    cargo --version
}

# Adds up the `test result:` lines of a log: passed, failed, binaries. Also counts the NOT CHECKED reports of passed tests.
totals() {
    awk '/^test result:/ { for (i = 2; i <= NF; i++) { if ($i == "passed;") p += $(i - 1); if ($i == "failed;") f += $(i - 1) } n++ }
         { u += gsub(/NOT CHECKED: /, "") }
         END { printf "%d %d %d %d\n", p, f, n, u }' "$1"
}

# Test binaries know where their sources are. Clones share the build folder, so what another one built is built again.
build_here() {
    local mark="$CARGO_TARGET_DIR/.clone"
    mkdir -p "$CARGO_TARGET_DIR"
    [ "$(cat "$mark" 2>/dev/null)" = "$PWD" ] && return
    grep -rlZ --include='*.rs' CARGO_MANIFEST_DIR src shards tests perf bench | xargs -0 touch
    printf '%s\n' "$PWD" >"$mark"
}

main() {
    install_packages
    install_rust
    build_here
    [ "${1:-}" = "--install-only" ] && return
    # Tests would install the servers that they need themselves. Installing them here means that no test waits for a download.
    say "installing the servers that tests use"
    bash tests/services/install.sh opensearch nginx elasticsearch || say "installation failed: the tests that need the server will fail"
    say "building the release binary in $CARGO_TARGET_DIR"
    cargo build --release --locked
    # The end-to-end tests use the same binary as users.
    export TAILWATER_BIN="$CARGO_TARGET_DIR/release/tailwater"
    [ -x "$TAILWATER_BIN" ] || die "no binary at $TAILWATER_BIN"

    local status=0 passed failed binaries unchecked
    log="$(mktemp)"
    trap 'rm -f "$log"' EXIT
    say "running every test of the workspace"
    cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$log" || status=$?
    read -r passed failed binaries unchecked < <(totals "$log")
    # A test binary that crashed prints no result line, so the totals alone would not show the failure.
    if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
        printf 'cargo test failed without a failed test: a build error or a crashed test binary; see the messages above\n'
        failed=1
    fi
    say "$binaries test binaries"
    printf '%d passed, %d failed, %d not checked\n' "$passed" "$failed" "$unchecked"
    if [ "${UNCHECKED:-}" = refused ] && [ "$unchecked" -ne 0 ]; then
        die "$unchecked checks were NOT CHECKED, which UNCHECKED=refused does not allow; see the NOT CHECKED messages above"
    fi
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] && [ "$status" -eq 0 ]
}

main "$@"
