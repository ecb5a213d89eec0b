#!/usr/bin/env bash
# Holds a running `serve` to the OpenAPI document that it serves, on SQLite and on PostgreSQL: Redocly's linter (from npm) reads the
# document, and Schemathesis (from PyPI) asks for whatever it allows and forbids. Any error, any answer that the document does not
# describe and any 5xx fails. Installs, starts and removes what it needs, as tests/run does; besides, npm and python3 with its
# venv must be there.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../run" -- cargo test --locked --test slow openapi -- --nocapture
