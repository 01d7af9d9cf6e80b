#!/usr/bin/env bash
# AuxNet: every output of a run as a model of its own depth; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" auxnet_selection "$@"
