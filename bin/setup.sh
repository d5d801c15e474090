# Sourced with $root set: makes sure that a Node of version 24 or newer and the dependencies of package-lock.json are
# there, says what it does, and sets JUICEPOD_NODE. Takes nothing from HOME and needs only some Node with npm.
usable() { [ -x "$1" ] && "$1" -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 24 ? 0 : 1)' 2>/dev/null; }
stamp="$root/node_modules/.juicepod-lock"
if ! cmp -s "$root/package-lock.json" "$stamp"; then
  command -v npm >/dev/null 2>&1 || { echo "juicepod: npm was not found. Install Node.js (any version that has npm), then try again." >&2; exit 1; }
  exec 8>"$root/.setup.lock"
  ! command -v flock >/dev/null 2>&1 || flock 8
  if ! cmp -s "$root/package-lock.json" "$stamp"; then
    echo "juicepod: installing dependencies (npm ci, once, about half a minute) ..." >&2
    log="$root/.setup.log"
    (cd "$root" && npm ci --no-audit --no-fund >"$log" 2>&1) || { echo "juicepod: npm ci failed; the end of $log:" >&2; tail -n 15 "$log" >&2; exit 1; }
    installed=yes
    cp "$root/package-lock.json" "$stamp"
  fi
  exec 8>&-
fi
JUICEPOD_NODE=
own="$root/node_modules/.bin/node"
# The one that came with the dependencies is tried once: a start of Node takes 30 ms.
tried="$root/node_modules/.juicepod-node"
if [ -x "$own" ] && [ "$tried" -nt "$own" ]; then JUICEPOD_NODE=$(readlink -f "$own"); else
  for candidate in "$own" "$(command -v node || true)"; do
    if usable "$candidate"; then JUICEPOD_NODE=$(readlink -f "$candidate"); break; fi
  done
  [ "$candidate" != "$own" ] || [ -z "$JUICEPOD_NODE" ] || (: >"$tried") 2>/dev/null || true
fi
[ -n "$JUICEPOD_NODE" ] || { echo "juicepod: Node.js 24 or newer is needed; found $(node --version 2>/dev/null || echo none), and npm has none for this machine. Install it from your distribution or with a version manager." >&2; exit 1; }
export JUICEPOD_NODE PATH="$root/node_modules/.bin:$PATH"
# A start is twice as fast from these few files (image/starts.ts); the sources do without.
if [ "${installed-}" = yes ]; then "$JUICEPOD_NODE" --disable-warning=ExperimentalWarning "$root/image/starts.ts" >/dev/null 2>&1 || true; fi
