"""Compile the CPU kernels now, not at their first use: python -m caffe.kernels.native.build"""

from . import LIBRARY

if __name__ == "__main__":
    print(f"{LIBRARY.name}: {LIBRARY.state()}")
