#!/bin/sh
# npm test: sets everything up (Node, dependencies, tools), then runs every check. See test/run.ts --help.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/bin/setup.sh"
exec "$JUICEPOD_NODE" --disable-warning=ExperimentalWarning "$root/test/run.ts" "$@"
