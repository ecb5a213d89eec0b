#!/usr/bin/env bash
# Takes the programs out of docs/apps.md, runs each against a Headpond of its own (on PostgreSQL, Python's on SQLite) with a small upstream,
# and compares what it prints with what the page says. Installs, starts and removes what it needs, as tests/run does; besides, python3
# with its venv, Node with npm, and Go must be there, and it says so where they are not. HEADPOND_BLESS=1 writes the outputs of
# curl and psql anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec tests/run -- python3 tests/slow/apps/run.py "$@"
