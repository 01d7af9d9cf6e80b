#!/usr/bin/env bash
# Relay BP, Figure 1: gradients by layer under standard BP; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../relay" figure figure1 "$@"
