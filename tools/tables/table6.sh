#!/usr/bin/env bash
# Relay BP, Table 6: very deep networks; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" table6 "$@"
