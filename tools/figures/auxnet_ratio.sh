#!/usr/bin/env bash
# AuxNet: the supervision ratio over blocks; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../relay" figure auxnet_ratio "$@"
