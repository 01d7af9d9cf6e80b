#!/usr/bin/env bash
# AuxNet: networks of several depths on CIFAR-10; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" auxnet_cifar10 "$@"
