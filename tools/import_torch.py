#!/usr/bin/env python3
"""Turn a torchvision state dict of a ResNet or VGG into a Caffe model."""

from relaybp.commands.import_torch import main

if __name__ == "__main__":
    main()
