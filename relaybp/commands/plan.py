"""Show what each loss trains and what that costs, or propose auxiliary losses.

python tools/plan.py vgg19                       print; draw runs/plan/vgg19.svg and .png
python tools/plan.py --net train_val.prototxt --relay relay.prototxt [--size 3x224x224]
python tools/plan.py vgg16 --auto 2              propose two auxiliary losses, and write
                                                 runs/plan/vgg16-auto2/ with net and relay file
"""

import argparse
import os
import re
import sys

from caffe_plain.errors import CaffeError

from .. import engines, flows, models, relay_file, run_folder
from ..cli import Parser
from ..errors import RelayError
from ..planning import branches, table
from ..planning.blueprint import graph_of, without_branches
from ..planning.propose import propose
from ..planning.trunk import Trunk


def arguments():
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", nargs="?", help="a name below prototxt/")
    parser.add_argument("--net", help="a train_val.prototxt of your own")
    parser.add_argument("--relay", help="its relay.prototxt")
    parser.add_argument(
        "--size", type=_size, help="CxHxW of the images, where no crop_size tells it"
    )
    parser.add_argument("--auto", type=int, metavar="K", help="propose K auxiliary losses")
    parser.add_argument("--out", default=os.path.join("runs", "plan"), help="where files go")
    parser.add_argument("--no-picture", action="store_true")
    args = parser.parse_args()
    if bool(args.model) == bool(args.net):
        parser.error("give a MODEL or --net")
    return args


def _size(text: str) -> list[int]:
    """[C, H, W] of "CxHxW"."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r}: expected CxHxW, such as 3x224x224")
    return [int(part) for part in text.split("x")]


def main():
    args = arguments()
    try:
        plan(engines.load().caffe, args)
    except CaffeError as error:
        sys.exit(f"plan: {error}")


def plan(caffe, args):
    pb = caffe.proto.caffe_pb2
    path, relay_path, name = sources(args)
    net_param = run_folder.read(path, pb.NetParameter())
    size = args.size
    if args.auto:
        name = f"{name}-auto{args.auto}"
        folder = os.path.join(args.out, name)
        net_param, relay = proposed(caffe, net_param, size, args.auto, folder)
    else:
        relay = relay_file.read_relay(relay_path) if relay_path else None
    graph = graph_of(caffe, net_param, size)
    relay = relay or relay_file.RelayParameter(schedule=relay_file.SCHEDULES.index("JOINT"))
    planned = flows.plan(graph.net, relay, net_param, relay_path or name)
    trunk = Trunk(graph)
    schedule = relay_file.schedule_name(relay)
    print(table.report(net_param.name or name, trunk, planned, schedule))
    if not args.no_picture:
        from ..planning import picture

        stem = os.path.join(args.out, name)
        paths = picture.draw(net_param.name or name, trunk, planned, schedule, stem)
        print(f"Drawn: {', '.join(paths)}")


def sources(args):
    """(train_val, relay file or None, name) of what the arguments name."""
    if args.net:
        return args.net, args.relay, os.path.splitext(os.path.basename(args.net))[0]
    folder, method = models.find(args.model)
    relay = args.relay or os.path.join(folder, "relay.prototxt")
    return (
        os.path.join(folder, "train_val.prototxt"),
        None if method == "JOINT" or not os.path.exists(relay) else relay,
        args.model,
    )


def proposed(caffe, net_param, size, count, folder):
    """Write the net with `count` auxiliary losses and its relay file; return both."""
    plain = without_branches(caffe.proto.caffe_pb2, net_param)
    trunk = Trunk(graph_of(caffe, plain, size))
    if len(trunk.graph.losses) > 1:
        names = ", ".join(trunk.graph.names[index] for index in trunk.graph.losses)
        raise RelayError(
            f"--auto: the net has several losses already ({names}); give their layers "
            'include { not_stage: "standard" }, and they are left out'
        )
    proposal = propose(trunk, count)
    from ..prototxt import cifar, parts

    small = trunk.units[0].shape[-1] <= branches.SMALL_IMAGE
    head = cifar.head if small else parts.googlenet_head
    grown = branches.add_branches(plain, trunk, proposal, head_maker(head))
    text = branches.relay_text(trunk, proposal)
    os.makedirs(folder, exist_ok=True)
    run_folder.write(os.path.join(folder, "train_val.prototxt"), grown)
    with open(os.path.join(folder, "relay.prototxt"), "w", encoding="utf-8") as file:
        file.write(text)
    print(text)
    print(branches.spec_lines(trunk, proposal, head.__name__))
    print(f"\nWritten: {folder}/train_val.prototxt, {folder}/relay.prototxt\n")
    return grown, relay_file.parse_relay(text)


def head_maker(head):
    """A function that returns a branch's layers, from one that adds a branch to a NetSpec."""

    def make(name, bottom, label, classes):
        from caffe.net_spec import NetSpec
        from caffe.net_spec import layers as L

        n = NetSpec()
        n[bottom], n[label] = L.Input(), L.Input()
        n.label = n[label]
        head(name, classes=classes)(n, n[bottom])
        return [layer for layer in n.to_proto().layer if layer.type != "Input"]

    return make
