#!/usr/bin/env bash
# Installs the programs that the tests start, where they are missing: redis-server, PostgreSQL,
# nginx, HAProxy, chromium, openssl, setpriv, libfaketime, s3s-fs (a server of S3, by cargo); and the tools that check what
# deploy/ has: promtool and systemd-analyze. Leaves no service running: the tests start their own.
set -euo pipefail

has() { PATH="$PATH:/usr/sbin:/usr/local/sbin:${CARGO_HOME:-$HOME/.cargo}/bin" command -v "$1" >/dev/null 2>&1; }
has_postgres() { has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
has_faketime() { compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' || compgen -G '/usr/local/lib/faketime/libfaketimeMT.so.1'; } >/dev/null
has_browser() { has chromium || has chromium-browser || has google-chrome; }

# In no distribution. A fixed version: newer ones want a newer Rust. One and a half minutes, once.
S3S_FS=0.14.1
if ! has s3s-fs; then
    echo "Installing for the tests: s3s-fs $S3S_FS"
    cargo install --quiet --locked --features binary "s3s-fs@$S3S_FS"
fi

missing=() # programs without which the tests fail
has redis-server && has redis-cli || missing+=(redis-server)
has_postgres && has psql || missing+=(postgresql)
has nginx || missing+=(nginx)
has haproxy || missing+=(haproxy)
has promtool || missing+=(prometheus)
[ "$(uname)" != Linux ] || has systemd-analyze || missing+=(systemd)
has openssl || missing+=(openssl)
[ "$(uname)" != Linux ] || has setpriv || missing+=(util-linux)
[ "$(uname)" != Linux ] || has_faketime || missing+=(faketime)
has_browser || missing+=(chromium)
[ ${#missing[@]} != 0 ] || exit 0

if [ "$(uname)" = Darwin ]; then
    echo "Missing for the tests: ${missing[*]}. Install them with:" >&2
    echo "    brew install redis postgresql@15 nginx haproxy prometheus openssl && brew install --cask chromium" >&2
    exit 1
fi

# Another user may become root, if that takes no password: nobody waits here to be asked for one.
as_root=()
if [ "$(id -u)" != 0 ]; then
    as_root=(sudo -n)
fi

if ! has apt-get || ! "${as_root[@]}" true 2>/dev/null; then
    echo "Missing for the tests: ${missing[*]}. As root, on Debian or Ubuntu:" >&2
    echo "    apt-get install -y ${missing[*]}" >&2
    echo "Other systems: the packages that bring redis-server 7, PostgreSQL 15, nginx, haproxy, promtool, systemd-analyze, openssl, setpriv, chromium, libfaketime." >&2
    exit 1
fi

# Debian starts a service when its package is installed, unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
fi

install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
install_fresh() { install "$@" 2>/dev/null || { "${as_root[@]}" apt-get update -qq && install "$@"; }; }

echo "Installing for the tests: ${missing[*]}"
install_fresh "${missing[@]}"
if [ -d /run/systemd/system ]; then
    for service in redis-server postgresql nginx haproxy prometheus; do
        [[ " ${missing[*]} " != *" $service "* ]] || "${as_root[@]}" systemctl disable --quiet "$service" || true
    done
fi
