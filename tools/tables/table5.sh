#!/usr/bin/env bash
# Relay BP, Table 5: five models and their ensemble; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" table5 "$@"
