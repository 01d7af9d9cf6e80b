#!/usr/bin/env bash
# AuxNet: standard, joint, pair-wise and multi-way back-propagation; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" auxnet_methods "$@"
