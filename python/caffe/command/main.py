"""The `caffe` command: caffe <command> <flags>.

commands:
  train           train or finetune a model
  test            score a model
  device_query    show GPU diagnostic information
  time            benchmark model execution time
"""

import sys

from .device_query import device_query
from .flags import net_program, run
from .score import test
from .timing import time
from .train import train

COMMANDS = {"train": train, "test": test, "device_query": device_query, "time": time}


def parser():
    """The command line, with the original's flags and a few more."""
    made = net_program("caffe", __doc__)
    made.add_argument("command", choices=COMMANDS, metavar="command")
    made.flag("solver", "", "the solver definition (solver.prototxt), for train")
    made.flag("model", "", "the model definition, for test and time")
    made.flag("weights", "", "weights to start from or to test, separated by ','")
    made.flag("snapshot", "", "the solver state to resume training from")
    made.flag("gpu", "", "run on these GPUs: 0, or 0,1 to train on several, or all")
    made.flag("iterations", 50, "how many batches to test or time")
    made.flag("phase", "", "TRAIN or TEST, for time")
    made.flag("level", 0, "the net's level")
    made.flag("stage", "", "the net's stages, separated by ','")
    made.flag("sigint_effect", "stop", "what SIGINT does: snapshot, stop or none")
    made.flag("sighup_effect", "snapshot", "what SIGHUP does: snapshot, stop or none")
    made.flag("extra", "", "the file of what this project adds to a solver (extra.proto)")
    made.flag("ways", False, "which of several ways each layer takes to compute, for time")
    made.flag("roofline", False, "how near each layer comes to the machine's limits, for time")
    made.flag("precision", "fp32", "fp32, tf32 or bf16")
    made.flag("fixed_ways", False, "the same bits on machines of one kind, instead of full speed")
    made.flag(
        "set",
        None,
        "another value for a field of the solver, FIELD=VALUE",
        action="append",
        metavar="FIELD=VALUE",
    )
    return made


def main(args=None):
    """Run the command line; return the exit status."""
    return run(parser(), lambda options: COMMANDS[options.command](options), args)


if __name__ == "__main__":
    sys.exit(main())
