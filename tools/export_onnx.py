#!/usr/bin/env python3
"""Export a deploy net with its weights as ONNX, for use outside Caffe."""

from relaybp.commands.export_onnx import main

if __name__ == "__main__":
    main()
