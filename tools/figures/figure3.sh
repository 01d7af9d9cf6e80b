#!/usr/bin/env bash
# Relay BP, Figure 3: errors by class, standard BP against Relay BP; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../relay" figure figure3 "$@"
