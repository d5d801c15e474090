#!/bin/sh
# npm run bench [-- NAME ...]: the benchmarks, one after the other. Names: fuse client chunk admission sync.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/bin/setup.sh"
for name in ${*:-fuse client admission sync}; do
  printf '\n# %s\n\n' "$name"
  "$JUICEPOD_NODE" --disable-warning=ExperimentalWarning "$root/bench/$name.ts"
done
