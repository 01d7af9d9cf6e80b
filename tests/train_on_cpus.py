"""`caffe train -gpu 0,1,...` where there is no GPU: every process on the CPU.

python tests/train_on_cpus.py COUNT SOLVER.PROTOTXT [replay]

With `replay` every process records its passes, as a GPU does, and messages are small.
"""

import sys

import recorded
from caffe.command import train
from caffe.command.flags import run
from caffe.command.main import parser
from caffe.run import replay
from caffe.training import parallel


def main():
    count, solver = int(sys.argv[1]), sys.argv[2]
    train.use_gpus = lambda flag: [None] * count
    return run(parser(), train.train, ["train", "-solver", solver])


if sys.argv[3:] == ["replay"]:  # in the processes that the first one starts, too
    recording = recorded.recording_from(2)
    made = recording.__enter__()
    replay._BYTES_BETWEEN_CUTS = parallel._BUCKET_BYTES = 500

if __name__ == "__main__":
    status = main()
    if sys.argv[3:] == ["replay"]:
        print(f"{len(made)} recordings of {sum(len(each._steps) for each in made)} steps")
    sys.exit(status)
