#!/usr/bin/env bash
# AuxNet: the exponent of the auxiliary losses' weights; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" auxnet_gamma "$@"
