"""Command lines as the original's (gflags): -flag=value, -flag value, with one dash or two."""

import argparse
import logging
import sys

from .. import device
from ..errors import CaffeError
from ..solver_log import init_log, say

FATAL = logging.CRITICAL


class FlagParser(argparse.ArgumentParser):
    """An ArgumentParser whose flags take one dash or two, and whose errors exit with status 1."""

    def __init__(self, name, doc):
        super().__init__(prog=name, description=doc, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)

    def flag(self, name, default, help, **more):
        """Add a flag; the type of `default` is the flag's type."""
        shown = f" (default: {default!r})" if default not in ("", None) else ""
        if default is not None:
            more["type"] = type(default)
        self.add_argument(f"-{name}", f"--{name}", default=default, help=help + shown, **more)

    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


def run(parser, action, args=None):
    """Parse the command line and call action(options); a CaffeError is one line and status 1."""
    options = parser.parse_args(args)
    init_log()
    try:
        action(options)
    except (CaffeError, OSError, ValueError) as error:
        say(parser.prog, str(error), FATAL)
        return 1
    except KeyboardInterrupt:
        say(parser.prog, "Interrupted.", FATAL)
        return 130
    return 0


def use_gpus(flag):
    """Choose what the -gpu flag names: "" the CPU, "0", "0,1" or "all"; return the list."""
    if not flag:
        say("caffe", "Use CPU.")
        device.set_mode_cpu()
        return []
    count = device.gpu_count()
    names = [str(index) for index in range(count)] if flag == "all" else flag.split(",")
    if not names or not all(name.strip().isdigit() for name in names):
        raise CaffeError(f"-gpu {flag}: expected all or numbers such as 0,1; {count} GPUs are "
                         "visible")
    gpus = [int(name) for name in names]
    say("caffe", "Using GPUs " + ", ".join(map(str, gpus)))
    device.set_device(gpus[0])
    device.set_mode_gpu()
    return gpus


def stages(flag):
    """The stages in a comma-separated flag."""
    return [stage for stage in flag.split(",") if stage]

