#!/usr/bin/env python3
"""Turn a torchvision state dict of a ResNet or VGG into a Caffe model."""

import sys

from relaybp.__main__ import run

if __name__ == "__main__":
    run("import-torch", sys.argv[1:])
