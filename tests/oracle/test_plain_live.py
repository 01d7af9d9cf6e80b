"""caffe_plain, and the messages that relaybp builds with it, under BVLC Caffe's own Python."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import importlib, pkgutil, sys
import caffe
sys.path.append("python")  # caffe is found before it
import caffe_plain
for module in pkgutil.walk_packages(caffe_plain.__path__, "caffe_plain."):
    importlib.import_module(module.name)
    print(module.name)
from relaybp.layers.scene_message import parse_options
from relaybp.relay_file import SCHEDULES, parse_relay
relay = parse_relay('flow { loss: "loss" to: "conv1" } weight_law { gamma: 2 }')
print(SCHEDULES[relay.schedule], relay.flow[0].to, relay.weight_law.reference)
print(parse_options('source: "lmdb" batch_size: 4').ahead)
print(caffe.proto.caffe_pb2.__file__)
"""


@pytest.mark.oracle
def test_every_module_is_imported_beside_bvlc_caffe(oracle):
    *modules, relay, ahead, caffe_pb2 = oracle(ROOT, "python3", "-c", SCRIPT).splitlines()
    files = (path.relative_to(ROOT / "python") for path in ROOT.glob("python/caffe_plain/**/*.py"))
    expected = {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files}
    assert set(modules) == expected - {"caffe_plain"}
    assert (relay, ahead) == ("RELAY conv1 0", "3")
    assert not Path(caffe_pb2).is_relative_to(ROOT)
