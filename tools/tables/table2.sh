#!/usr/bin/env bash
# Relay BP, Table 2: the layers of models A and B; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" table2 "$@"
