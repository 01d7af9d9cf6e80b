#!/usr/bin/env python3
"""How long a user waits before the first iteration: import, net construction, first iteration.

    python benchmarks/start_up.py [--model resnet50_relay] [--batch 8] [--rounds 5] [--out FILE]

Every round is a separate process. Prints the median and the range over the rounds, in seconds.
"import caffe" is the time beyond `import torch` itself.
"""

import argparse
import json
import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]

from benchmarks.train_step import hardware, result_of, spread  # noqa: E402

TARGETS = {"import caffe": 1.0, "build the net": 2.0}  # seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="resnet50_relay")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpu", default="none")
    parser.add_argument("--out", help="file for the table, besides the screen")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print("RESULT " + json.dumps(child(args)))
        return
    rounds = [run_child() for _ in range(args.rounds)]
    lines = [
        f"command: python {' '.join(sys.argv)}",
        hardware(args.gpu),
        f"{args.model}, batch {args.batch}, {args.size} x {args.size}, {args.rounds} rounds",
    ]
    for what in rounds[0]:
        values = [found[what] for found in rounds]
        target = TARGETS.get(what)
        reached = (
            ""
            if target is None
            else "   target {:g} s: {}".format(
                target, "reached" if statistics.median(values) <= target else "missed"
            )
        )
        lines.append(f"  {what:20} {spread(values):>20} s{reached}")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if args.out:
        with open(args.out, "w") as file:
            file.write(text)


def run_child():
    command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--child"]
    return result_of(command, None, "start-up")


def child(args):
    """{what: seconds} of one process."""
    from relaybp import engines

    found, clock = {}, Clock()
    import torch  # noqa: F401

    found["import torch"] = clock.lap()
    engine = engines.load()
    found["import caffe"] = clock.lap()
    import relay_cases
    from relaybp import flows

    engine.use_device(args.gpu)
    folder = os.path.join(ROOT, "build", "benchmark")
    os.makedirs(folder, exist_ok=True)
    relay_cases.CASES["benchmark"] = (args.model, None)
    path, relay, param = relay_cases.prepare(
        engine.caffe, "benchmark", folder, args.batch, args.size
    )
    clock.lap()
    solver = engine.make_solver(path)
    found["build the net"] = clock.lap()
    net = solver.net
    planned = None if relay is None else flows.plan(net, relay, param)
    run = engine.backward(net, planned)
    found["plan the flows"] = clock.lap()
    for what in ("first iteration", "second iteration"):
        net.clear_param_diffs()
        net._forward(0, len(net.layers) - 1)
        run()
        solver.apply_update()
        found[what] = clock.lap()
    return found


class Clock:
    """Seconds since it was made or last asked."""

    def __init__(self):
        self.begun = time.perf_counter()

    def lap(self):
        before, self.begun = self.begun, time.perf_counter()
        return self.begun - before


if __name__ == "__main__":
    main()
