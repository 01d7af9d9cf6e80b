"""Record which layers BVLC Caffe keeps in each state of a net, for tests/test_phases.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_phases.py [OUT]

writes OUT/phases.json (default OUT: tests/golden): {state: one digit for each layer of
tests/phase_cases.py, 1 where it is in the net}.
"""

import json
import os
import sys
import tempfile

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS)

os.environ.setdefault("GLOG_minloglevel", "2")  # only what ends the process

import caffe  # noqa: E402
import golden  # noqa: E402
import phase_cases  # noqa: E402


def main(out):
    kept = {}
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(phase_cases.NET)
        file.flush()
        for phase, level, stages in phase_cases.STATES:
            net = caffe.Net(file.name, phase, level=level, stages=list(stages))
            kept[phase_cases.key(phase, level, stages)] = phase_cases.bits(net._layer_names)
    golden.save_text(os.path.join(out, "phases.json"), json.dumps(kept, indent=1) + "\n")
    print("%d states of %d layers" % (len(kept), len(phase_cases.LAYERS)))


if __name__ == "__main__":
    main(*sys.argv[1:] or [golden.FOLDER])
