#!/usr/bin/env bash
# Relay BP, Figure 2: the network with the flow of each loss, beside standard BP; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../relay" figure figure2 "$@"
