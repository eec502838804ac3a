#!/usr/bin/env bash
# Measures BentoCache, the cache of Node.js that is nearest to ours, beside a bare GET and PUBLISH of its own client: the other half
# of `bench --only cache`. Needs node and npm, which install it below target/; says so where they are not there.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=1.6.1
IOREDIS=5.8.2
ROUNDS=${ROUNDS:-5}
tools=target/bentocache

for program in node npm redis-server; do
    command -v "$program" >/dev/null || { echo "bentocache.sh: $program is not installed: BentoCache is not measured"; exit 0; }
done
mkdir -p "$tools"
[ -d "$tools/node_modules/bentocache" ] || {
    echo '{"private":true,"type":"module"}' >"$tools/package.json"
    npm install --prefix "$tools" --silent --no-fund --no-audit "bentocache@$VERSION" "ioredis@$IOREDIS" ||
        { echo "bentocache.sh: npm cannot install bentocache $VERSION: it is not measured"; exit 0; }
}
# The packages are looked for beside the script.
cp .ci/bentocache.mjs "$tools/"

folder=$(mktemp -d)
port=$(node -e 'const s = require("net").createServer().listen(0, () => { console.log(s.address().port); s.close() })')
redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$folder" >"$folder/log" 2>&1 &
redis=$!
trap 'kill $redis 2>/dev/null || true; wait $redis 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 100); do
    redis-cli -p "$port" ping >/dev/null 2>&1 && break
    kill -0 $redis || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done
node "$tools/bentocache.mjs" "$port" "$ROUNDS"
