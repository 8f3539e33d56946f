#!/bin/sh
# usage: lock.sh UV: writes requirements/*.txt anew from pyproject.toml, hashed, for every platform, without any
# index's address. What is pinned already stays where it can: delete a line to move that package on.
# crcmod has no wheels; crcmod-plus, which is named beside it, has the same module.
set -eu
uv=$1
lock() {
    out=$1; shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-emit-package crcmod "$@" -o "$out"
}
lock requirements/dev.txt pyproject.toml --extra dev
lock requirements/run.txt pyproject.toml --extra install -c requirements/dev.txt
lock requirements/audit.txt pyproject.toml --extra audit -c requirements/dev.txt
