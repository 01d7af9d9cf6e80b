"""draw_net: a net's graph as an image or as DOT text.

draw_net net.prototxt net.png [--rankdir LR] [--phase ALL] [--display_lrm]
"""

from ..draw import draw_net_to_file
from ..files.text import read_net
from ..proto import caffe_pb2
from .flags import program, run

_PHASES = {"TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST, "ALL": None}


def main(args=None):
    """Run the command line; return the exit status."""
    parser = program("draw_net", __doc__)
    parser.add_argument("net", help="the net's prototxt")
    parser.add_argument("output", help="the file to write: .png, .svg, .pdf, .dot, ...")
    parser.flag("rankdir", "LR", "TB, BT, LR or RL", choices=("TB", "BT", "LR", "RL"))
    parser.flag("phase", "ALL", "the layers of one phase", choices=tuple(_PHASES))
    parser.add_argument(
        "-display_lrm",
        "--display_lrm",
        action="store_true",
        help="show the learning rate multipliers",
    )
    return run(parser, _draw, args)


def _draw(options):
    print(f"Drawing net to {options.output}")
    draw_net_to_file(
        read_net(options.net),
        options.output,
        options.rankdir,
        _PHASES[options.phase],
        options.display_lrm,
    )
