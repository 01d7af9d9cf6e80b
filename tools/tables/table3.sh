#!/usr/bin/env bash
# Relay BP, Table 3: three methods on models A and B, a single crop; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" table3 "$@"
