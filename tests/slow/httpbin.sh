#!/usr/bin/env bash
# Shows what Headpond makes of the answers of httpbin (installed from PyPI into a directory of its own) and nginx, each asked
# twice, on SQLite and on PostgreSQL: a table, and a failure if anything in it is not as it should be. Installs, starts and
# removes what it needs, as tests/run does; besides, python3 with its venv must be there.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../run" -- cargo test --locked --test slow httpbin -- --nocapture
