# Java for the servers that need it.
# shellcheck shell=bash disable=SC2154

# Finds the newest installed Java, version 21 or later. Reads the version from its folder without starting it.
newest_java() {
    local candidate root version best=0
    java=""
    for candidate in "${JAVA_HOME:-/nowhere}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
        [ -x "$candidate" ] || continue
        root="$(dirname "$(dirname "$(readlink -f "$candidate")")")"
        version="$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$root/release" 2>/dev/null || true)"
        if [ "${version:-0}" -ge 21 ] && [ "$version" -gt "$best" ]; then best="$version" java="$root/bin/java"; fi
    done
    [ -n "$java" ]
}

# find_java SERVER: sets `java`, and installs one if there is none.
find_java() {
    local candidate
    newest_java && return
    have apt-get || die "$1: needs Java 21 or newer: install it and run this again"
    as_root apt-get update -qq
    updated=1
    for candidate in openjdk-25-jre-headless openjdk-21-jre-headless; do
        if apt-cache show "$candidate" >/dev/null 2>&1; then
            package "$candidate"
            newest_java && return
        fi
    done
    die "$1: needs Java 21 or newer, which is not in /usr/lib/jvm, JAVA_HOME, PATH or this system's packages"
}
