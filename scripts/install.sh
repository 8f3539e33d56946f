#!/bin/sh
# usage: install.sh PYTHON VENV LOCK: system libraries, virtual environment, pinned and hashed packages.
set -eu
python=$1 venv=$2 lock=$3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "iceball-monitor needs Python 3.11 or newer; $("$python" --version) found. Try: make PYTHON=python3.12 install" >&2; exit 1; }
sh scripts/system_packages.sh qt
if ! "$python" -m venv "$venv"; then
    echo "This Python has no venv module. Please run: sudo apt-get install -y python3-venv" >&2; exit 1
fi
# The lock is complete, so nothing is resolved and nothing unpinned can come in.
"$venv/bin/python" -m pip install --quiet --no-deps --require-hashes --only-binary :all: -r "$lock"
"$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
