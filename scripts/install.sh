#!/bin/sh
# Sets up .venv/ of this checkout, or does nothing when it is as it should be (called by make).
#
# .venv/installed holds the key of a finished installation, so an interrupted one has none.
# .venv/installing holds the process that is at work; if that is gone, it was killed half-way,
# and what it left is thrown away.
set -eu
cd "$(dirname "$0")/.."

# What an installation depends on; the settings of tools (from the first [tool.) are none of it.
key="$(sed '/^\[tool\./,$d' pyproject.toml | cat - constraints.txt scripts/install.sh | cksum) $PWD"

works() { .venv/bin/python -c '' 2>/dev/null; }  # no longer, when its Python was removed

if [ "$(cat .venv/installed 2>/dev/null)" = "$key" ] && works; then exit 0; fi

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    echo "error: Python 3.11 is needed, '$PYTHON' is none: make PYTHON=/path/to/python3.11" >&2
    exit 2
fi

if [ -e .venv/installing ]; then
    if kill -0 "$(cat .venv/installing)" 2>/dev/null; then
        echo "error: process $(cat .venv/installing) is setting up .venv/: wait until it is done" >&2
        exit 2
    fi
    rm -rf .venv
fi
works || rm -rf .venv

echo "Setting up .venv/ (several minutes the first time)"
mkdir -p .venv
rm -f .venv/installed
echo $$ >.venv/installing
"$PYTHON" -m venv .venv
if [ -t 1 ]; then quiet=; else quiet=--quiet; fi
status=0
.venv/bin/python -m pip install $quiet --use-pep517 -c constraints.txt -e '.[all,dev]' || status=$?
if [ $status = 0 ]; then echo "$key" >.venv/installed; fi
rm .venv/installing
exit $status
