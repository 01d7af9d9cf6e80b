"""List the models that `relay train --model` and `make train MODEL=` can name."""

import os
import re
import shutil
import textwrap

from caffe_plain.phases import TEST

from .. import engines, models, prototxt, relay_file, run_folder
from ..cli import Parser
from ..prototxt import count

INDENT, WIDTH = 51, 70  # of descriptions, in characters; narrower in a narrow terminal
ENDING = """\
MODEL trains by standard BP, MODEL_multiloss lets every loss train down to the bottom, MODEL_relay
has the schedule of its relay.prototxt. Parameters, and multiply-adds of one image, are those of the
deploy net. What to expect of a model stands in the README.md of its folder, below"""


def main() -> None:
    Parser(description=__doc__).parse_args()
    columns = shutil.get_terminal_size().columns
    width = max(20, min(WIDTH, columns - INDENT))
    pb = engines.load().pb
    bases = [name[: -len("_relay")] for name in models.names() if name.endswith("_relay")]
    print("%-18s %10s %8s  %-10s %s" % ("MODEL", "parameters", "adds", "schedule", "what it is"))
    for base in bases:
        folder, _ = models.find(base)
        net = run_folder.read(os.path.join(folder, "deploy.prototxt"), pb.NetParameter())
        rows = count.walk(net, TEST)
        relay = relay_file.read_relay(os.path.join(folder, "relay.prototxt"))
        print(
            "%-18s %8.2f M %6.2f G  %-10s %s"
            % (
                base,
                count.parameters(rows) / 1e6,
                count.multiply_adds(rows) / 1e9,
                relay_file.schedule_name(relay),
                ("\n" + " " * INDENT).join(textwrap.wrap(description(folder), width)),
            )
        )
    print("", textwrap.fill(ENDING, min(columns, 100)), sep="\n")
    print(os.path.dirname(prototxt.__file__))
    print(f"{len(bases)} models, each with three methods")


def description(folder):
    """The first sentence of the model's readme."""
    with open(os.path.join(folder, "README.md"), encoding="utf-8") as file:
        paragraph = file.read().split("\n\n")[1].replace("\n", " ")
    return re.split(r"(?<!al)\. ", paragraph)[0].rstrip(".")
