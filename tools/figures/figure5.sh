#!/usr/bin/env bash
# Relay BP, Figure 5: images wrongly classified; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../relay" figure figure5 "$@"
