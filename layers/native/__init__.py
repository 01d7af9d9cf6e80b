"""What the layers have in C, where it has been built: python -m layers.native.build"""
