#!/bin/sh
# usage: audit.sh PYTHON VENV LOCK...: known weaknesses of what is pinned, from an environment of its own.
# Whether the database answers at all is asked first, by a version that is known to be weak: where that is not
# found, nothing is said to be clean.
set -eu
python=$1 venv=$2; shift 2
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --no-deps --require-hashes --only-binary :all: -r requirements/audit.txt
audit() { "$venv/bin/pip-audit" --strict --disable-pip --require-hashes -r "$1"; }
weak=$(mktemp)
trap 'rm -f "$weak"' EXIT
# CVE-2024-22195 and others; it is not installed.
echo 'jinja2==3.1.2 --hash=sha256:6088930bfe239f0e6710546ab9c19c9ef35e29792895fed6e6e31a023a182a61' >"$weak"
said=$(audit "$weak" 2>&1) || true
case $said in
*CVE-* | *PYSEC-* | *GHSA-*) ;;
*)  echo "$said" | tail -3 >&2
    echo "audit: the database of weaknesses does not answer here: NOTHING WAS AUDITED (docs/operations.md)" >&2
    exit 3 ;;
esac
for lock; do audit "$lock"; done
