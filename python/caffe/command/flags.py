"""Command lines like the original's (gflags): -flag=value, -flag value, with one dash or two."""

import contextlib
import logging

from caffe_plain import python_layers
from caffe_plain.errors import CaffeError, reason
from caffe_plain.flags import FlagParser, print_any_text
from caffe_plain.glog import init_log, log_to_folder, say
from caffe_plain.version import CAFFE_VERSION, VERSION

from .. import device

FATAL = logging.CRITICAL


def program(name, doc):
    """A FlagParser for one of Caffe's programs, with glog's flags and -version."""
    parser = FlagParser(doc, name)
    parser.add_argument(
        "-version",
        "--version",
        action="version",
        version=f"{name} version {CAFFE_VERSION}, project version {VERSION}",
        help="show the versions, Caffe's and the project's",
    )
    parser.flag("log_dir", "", "also write the log to a file in this folder")
    parser.flag("minloglevel", None, "log 0 all, 1 warnings, 2 errors, 3 fatal errors", type=int)
    parser.flag("logtostderr", False, "log to stderr alone, whatever log_dir says")
    parser.flag("alsologtostderr", True, "with log_dir, log to stderr, too")
    return parser


def net_program(name, doc):
    """A `program` that builds nets: with -python_layers."""
    parser = program(name, doc)
    parser.flag(
        "python_layers",
        "",
        "folders, separated as in PYTHONPATH, from which Python layers may come, besides the "
        f"prototxt's own; also {python_layers.VARIABLE}",
    )
    return parser


def _log_to_folder(parser, options):
    try:
        log_to_folder(options.log_dir, parser.prog, options.minloglevel)
    except OSError as error:
        raise CaffeError(
            f"-log_dir {options.log_dir}: {error.strerror}; give a folder that is "
            "there and where you may write"
        ) from error


def run(parser, action, args=None):
    """Parse the command line and call action(options); a user's error is one line and status 1."""
    print_any_text()
    options = parser.parse_args(args)
    try:
        on_stderr = init_log(options.minloglevel)
        if options.log_dir and not options.logtostderr:
            _log_to_folder(parser, options)
            if not options.alsologtostderr:
                on_stderr.setLevel(logging.ERROR)  # like glog's stderrthreshold
        with _modules(options):
            action(options)
    except (CaffeError, OSError, ValueError, MemoryError) as error:
        say(parser.prog, reason(error), FATAL)
        return 1
    except KeyboardInterrupt:
        say(parser.prog, "Interrupted.", FATAL)
        return 130
    return 0


def _modules(options):
    """The context in which a `net_program` runs: its prototxts name only modules they may name."""
    if "python_layers" not in options:
        return contextlib.nullcontext()
    return python_layers.restricted(options.python_layers)


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
    if len(set(gpus)) < len(gpus):
        raise CaffeError(f"-gpu {flag}: each process needs a GPU of its own; name each GPU once")
    say("caffe", "Using GPUs " + ", ".join(map(str, gpus)))
    device.set_device(gpus[0])
    device.set_mode_gpu()
    return gpus


def stages(flag):
    """The stages in a comma-separated flag."""
    return [stage for stage in flag.split(",") if stage]
