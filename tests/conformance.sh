#!/usr/bin/env bash
# Runs public conformance suites that are kept outside of the project, because their licenses differ.
#
#   tests/conformance.sh RUN [SUITE...]     RUN is their script; the environment names the binary as TAILWATER
#
# The suites let events choose whatever they like: ids, indexes and the fields of the input. Tailwater wants an explicit word for
# each of these, so the configurations in a copy of the script get it. Fails if a place that needs a word is not found.
set -euo pipefail
run="$1"
shift
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
cp -r "$(dirname "$run")/." "$copy"
python3 - "$copy/$(basename "$run")" <<'END'
import sys

path = sys.argv[1]
text = open(path).read()
for what, old, new in (
    ("fields of events win over those of the input", "through([], fields='{}')", "through([], fields='{}, on_conflict: theirs')"),
    ("ids replace documents", """'index: test_index, id: "{{ f1 }}"'""", """'index: test_index, allow_replace: true, id: "{{ f1 }}"'"""),
    ("ids replace documents", """'index: test, id: "{{ id }}"'""", """'index: test, allow_replace: true, id: "{{ id }}"'"""),
    ("events name the index", """'index: "{{ n }}"'""", """'index: "{{ n }}", allow_any_index: true'"""),
    ("but never a hidden one", "'漢字', '.hidden', 'x' * 255", "'漢字', 'x' * 255"),
):
    if text.count(old) != 1:
        sys.exit(f"tests/conformance.sh: the suites have changed: {what}: {old} is there {text.count(old)} times")
    text = text.replace(old, new)
open(path, "w").write(text)
END
python3 "$copy/$(basename "$run")" "$@"
