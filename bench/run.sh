#!/bin/sh
# npm run bench [-- NAME ...]: the benchmarks, one after the other. Names: fuse client real-work passthrough chunk
# admission admission-create admission-random sync pod-start operator-scale metrics. One that this machine cannot run (status 77) says why, and the others go on.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/bin/setup.sh"
for name in ${*:-fuse client real-work passthrough admission admission-create admission-random sync pod-start operator-scale metrics}; do
  printf '\n# %s\n\n' "$name"
  "$JUICEPOD_NODE" --disable-warning=ExperimentalWarning "$root/bench/$name.ts" || [ $? = 77 ]
done
