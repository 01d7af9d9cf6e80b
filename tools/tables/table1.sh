#!/usr/bin/env bash
# Relay BP, Table 1: deeper plain networks do not help standard BP; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" table1 "$@"
