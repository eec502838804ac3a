#!/usr/bin/env bash
# Builds the fixture application of an older version to target/older/fixture.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -ne 1 ] || ! commit=$(git rev-parse --verify --quiet "$1^{commit}"); then
    echo "which version? make upgrade OLDER=<a tag or commit of this repository>" >&2
    exit 64
fi
mkdir -p target/older
rm -rf target/older/source
git worktree prune
git worktree add --quiet --detach target/older/source "$commit"
trap 'git worktree remove --force target/older/source' EXIT
CARGO_TARGET_DIR=$PWD/target/older/build cargo build \
    --manifest-path target/older/source/Cargo.toml --package understudy-tests --bin fixture
cp target/older/build/debug/fixture target/older/fixture
echo "$commit" >target/older/version
