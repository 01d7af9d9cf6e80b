#!/usr/bin/env bash
# AuxNet: networks on SVHN; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" auxnet_svhn "$@"
