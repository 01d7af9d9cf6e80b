"""Command lines as the original's (gflags): -flag=value, -flag value, with one dash or two."""

import argparse
import logging
import sys

from caffe_plain.errors import CaffeError
from caffe_plain.glog import init_log, log_to_folder, say
from caffe_plain.version import CAFFE_VERSION, VERSION

from .. import device

FATAL = logging.CRITICAL
_TRUTH = {
    "true": True,
    "t": True,
    "1": True,
    "yes": True,
    "y": True,
    "false": False,
    "f": False,
    "0": False,
    "no": False,
    "n": False,
}


class FlagParser(argparse.ArgumentParser):
    """An ArgumentParser whose flags take one dash or two, and whose errors exit with status 1.

    Every program has the flags of its log (glog's) and -version.
    """

    def __init__(self, name, doc):
        super().__init__(
            prog=name,
            description=doc,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.switches = set()
        self.add_argument(
            "-version",
            "--version",
            action="version",
            version=f"{name} version {CAFFE_VERSION}, project version {VERSION}",
            help="show the versions, Caffe's and the project's",
        )
        self.flag("log_dir", "", "also write the log to a file in this folder")
        self.flag("minloglevel", None, "log 0 all, 1 warnings, 2 errors, 3 fatal errors", type=int)
        self.switch("logtostderr", False, "log to stderr alone, whatever log_dir says")
        self.switch("alsologtostderr", True, "with log_dir, log to stderr, too")

    def flag(self, name, default, help, **more):
        """Add a flag; the type of `default` is the flag's type."""
        shown = f" (default: {default!r})" if default not in ("", None) else ""
        if default is not None:
            more["type"] = type(default)
        self.add_argument(f"-{name}", f"--{name}", default=default, help=help + shown, **more)

    def switch(self, name, default, help):
        """Add a flag that is on or off: -name, -name=true, -name=false, -noname."""
        self.switches.add(name)
        self.flag(name, None, help, type=_truth, metavar="true|false")
        self.set_defaults(**{name: default})

    def parse_known_args(self, args=None, namespace=None):
        words = list(sys.argv[1:] if args is None else args)
        for index, word in enumerate(words):
            name = word.lstrip("-") if word.startswith("-") else ""
            if name in self.switches:
                words[index] = f"-{name}=true"
            elif name.startswith("no") and name[2:] in self.switches:
                words[index] = f"-{name[2:]}=false"
        return super().parse_known_args(words, namespace)

    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


def _log_to_folder(parser, options):
    try:
        log_to_folder(options.log_dir, parser.prog, options.minloglevel)
    except OSError as error:
        raise CaffeError(
            f"-log_dir {options.log_dir}: {error.strerror}; give a folder that is "
            "there and where you may write"
        ) from error


def _truth(text):
    if text.lower() not in _TRUTH:
        raise argparse.ArgumentTypeError(f"{text!r}: expected true or false")
    return _TRUTH[text.lower()]


def run(parser, action, args=None):
    """Parse the command line and call action(options); a CaffeError is one line and status 1."""
    options = parser.parse_args(args)
    on_stderr = init_log(options.minloglevel)
    try:
        if options.log_dir and not options.logtostderr:
            _log_to_folder(parser, options)
            if not options.alsologtostderr:
                on_stderr.setLevel(logging.ERROR)  # as glog's stderrthreshold
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
        raise CaffeError(
            f"-gpu {flag}: expected all or numbers such as 0,1; {count} GPUs are visible"
        )
    gpus = [int(name) for name in names]
    say("caffe", "Using GPUs " + ", ".join(map(str, gpus)))
    device.set_device(gpus[0])
    device.set_mode_gpu()
    return gpus


def stages(flag):
    """The stages in a comma-separated flag."""
    return [stage for stage in flag.split(",") if stage]
