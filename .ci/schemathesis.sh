#!/usr/bin/env bash
# Asks a node of its own whatever the description of its admin API allows and does not allow, with schemathesis from PyPI, in a
# virtual environment below target/. Fails when an answer is an error of the server.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=4.32.5
EXAMPLES=${EXAMPLES:-50}
TOKEN=a-token-of-this-run-0123456789abcdef
tools=target/schemathesis

[ -x "$tools/bin/schemathesis" ] || {
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet "schemathesis==$VERSION"
}
cargo build --quiet

folder=$(mktemp -d)
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
public=$(port) admin=$(port)
env UNDERSTUDY_DATA_DIR="$folder" UNDERSTUDY_HTTP_BIND="127.0.0.1:$public" UNDERSTUDY_ADMIN_BIND="127.0.0.1:$admin" \
    UNDERSTUDY_ADMIN_TOKEN=$TOKEN target/debug/understudy >"$folder/log" 2>&1 &
node=$!
trap 'kill $node 2>/dev/null || true; wait $node 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 100); do
    curl -sf "http://127.0.0.1:$admin/health/ready" >/dev/null && break
    kill -0 $node || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done

# Left out: what ends the node, and a stream that never ends.
"$tools/bin/schemathesis" run "http://127.0.0.1:$admin/v1/openapi.json" \
    --header "Authorization: Bearer $TOKEN" --checks not_a_server_error --max-examples "$EXAMPLES" --seed 4 \
    --exclude-operation-id nodes.restart --exclude-operation-id cluster.restart --exclude-operation-id events.watch \
    --request-timeout 30 --no-color
