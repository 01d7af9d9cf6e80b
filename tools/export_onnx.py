#!/usr/bin/env python3
"""Export a deploy net with its weights as ONNX, for use outside Caffe."""

import sys

from relaybp.__main__ import run

if __name__ == "__main__":
    run("export-onnx", sys.argv[1:])
