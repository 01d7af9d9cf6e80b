#!/usr/bin/env bash
# AuxNet: networks of several depths on CIFAR-100; --help says what it needs and how long it takes.
exec "$(dirname "${BASH_SOURCE[0]}")/../reproduce" auxnet_cifar100 "$@"
