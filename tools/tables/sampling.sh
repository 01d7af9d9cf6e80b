#!/usr/bin/env bash
# Relay BP: class-aware sampling against plain shuffling; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" sampling "$@"
