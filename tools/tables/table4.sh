#!/usr/bin/env bash
# Relay BP, Table 4: three methods on models A and B, single models; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" table4 "$@"
