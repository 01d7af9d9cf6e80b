"""python -m caffe: the `caffe` command."""

import sys

from .command.main import main

if __name__ == "__main__":  # and not in the processes that training starts
    sys.exit(main())
