#!/usr/bin/env bash
# Relay BP, Figure 4: images rightly classified; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../relay" figure figure4 "$@"
