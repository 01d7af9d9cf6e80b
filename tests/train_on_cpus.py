"""`caffe train -gpu 0,1,...` where there is no GPU: every process on the CPU.

python tests/train_on_cpus.py COUNT SOLVER.PROTOTXT
"""

import sys

from caffe.command import train
from caffe.command.flags import run
from caffe.command.main import parser


def main():
    count, solver = int(sys.argv[1]), sys.argv[2]
    train.use_gpus = lambda flag: [None] * count
    return run(parser(), train.train, ["train", "-solver", solver])


if __name__ == "__main__":
    sys.exit(main())
