"""List the models that `make train MODEL=` can name: python tools/list_models.py"""

import os
import re
import textwrap

from caffe_plain.phases import TEST

from .. import engines, models, relay_file, run_folder
from ..prototxt import count

WIDTH = 70  # characters of a description
ENDING = """
MODEL trains by standard BP, MODEL_multiloss lets every loss train down to the bottom, MODEL_relay
has the schedule of its relay.prototxt. Parameters, and multiply-adds of one image, are those of the
deploy net; each folder's README.md tells more, and what to expect.
{} models, each with three methods"""


def main():
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
                ("\n" + " " * 51).join(textwrap.wrap(description(folder), WIDTH)),
            )
        )
    print(ENDING.format(len(bases)))


def description(folder):
    """The first sentence of the model's readme."""
    with open(os.path.join(folder, "README.md"), encoding="utf-8") as file:
        paragraph = file.read().split("\n\n")[1].replace("\n", " ")
    return re.split(r"(?<!al)\. ", paragraph)[0].rstrip(".")
