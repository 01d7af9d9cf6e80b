"""NetSpec against BVLC Caffe's own on the same scripts, and its errors."""

import copy
import json

import pytest
from google.protobuf import text_format

from caffe import net_spec
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from caffe.proto import caffe_pb2
from caffe_plain.errors import CaffeError
from tests.oracle.record_net_spec import GOLDEN, SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_script_gives_the_message_that_bvlc_caffe_gives(script):
    with open(GOLDEN) as file:
        recorded = json.load(file)[script.__name__]
    message = script(net_spec)
    assert message == text_format.Parse(recorded, type(message)())


def test_names_are_those_of_the_original_module():
    names = {
        "Function",
        "Layers",
        "NetSpec",
        "Parameters",
        "Top",
        "assign_proto",
        "layers",
        "param_name_dict",
        "params",
        "to_proto",
    }
    assert names <= set(vars(net_spec))


def test_a_layer_tells_its_type_inputs_and_parameters():
    data = L.Input(shape={"dim": [1, 3, 8, 8]})
    top = L.Convolution(data, num_output=2, kernel_size=3, ntop=1, in_place=False)
    assert (top.fn.type_name, top.fn.inputs, top.n) == ("Convolution", (data,), 0)
    assert top.fn.params == {"num_output": 2, "kernel_size": 3}
    assert (top.fn.tops, top.fn.ntop, top.fn.in_place) == ((top,), 1, False)


def data():
    return L.Input(shape={"dim": [1, 3, 8, 8]})


# the parameters of a Convolution called conv1, the error's builtin kind, what its message says
MISTAKES = [
    ({"num_outputs": 2}, AttributeError, "no field 'num_outputs'.*did you mean 'num_output'"),
    ({"convolutoin_param": {}}, AttributeError, "did you mean 'convolution_param'"),
    ({"bias_filler": {"tpye": "msra"}}, AttributeError, "FillerParameter has no field 'tpye'"),
    ({"param": [{"lr_mul": 1}]}, AttributeError, "ParamSpec has no field 'lr_mul'.*'lr_mult'"),
    ({"num_output": "many"}, TypeError, "num_output is one int, but was given 'many'"),
    ({"num_output": [2]}, TypeError, r"num_output is one int, but was given \[2\]"),
    ({"num_output": -1}, ValueError, "num_output is one int, but was given -1"),
    ({"kernel_size": "3x3"}, TypeError, "kernel_size is a list of int, but was given '3x3'"),
    ({"group": 0.5}, TypeError, "group is one int, but was given 0.5"),
    ({"name": 3}, TypeError, "name is one str, but was given 3"),
    ({"loss_weight": "a"}, TypeError, "loss_weight is a list of float, but was given 'a'"),
    ({"weight_filler": "msra"}, TypeError, r"weight_filler is one FillerParameter \(a dict\)"),
    ({"engine": "CUDA"}, ValueError, "engine is one Engine .one of DEFAULT, CAFFE, CUDNN."),
    ({"include": 3}, TypeError, r"include is a list of NetStateRule \(a dict\)"),
]


@pytest.mark.parametrize("parameters, kind, says", MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_names_layer_field_and_cure(parameters, kind, says):
    n = NetSpec()
    n.conv1 = L.Convolution(data(), **parameters)
    with pytest.raises(kind, match="layer 'conv1' .type Convolution.: .*" + says) as caught:
        n.to_proto()
    assert isinstance(caught.value, CaffeError)


def test_a_mistyped_layer_type_is_suspected_when_its_field_is_unknown():
    with pytest.raises(AttributeError, match="'Convolutoin' has no parameters.*'Convolution'"):
        L.Convolutoin(data(), num_output=2).to_proto()


@pytest.mark.parametrize(
    "look_up, says",
    [
        (lambda: P.Pooling.MAXX, r"params.Pooling has no constant 'MAXX': did you mean 'MAX'"),
        (lambda: P.Poling.MAX, "params.Poling: .*did you mean 'Pooling'"),
    ],
)
def test_an_unknown_constant_is_an_attribute_error(look_up, says):
    with pytest.raises(AttributeError, match=says):
        look_up()


def test_an_unknown_top_is_both_an_attribute_and_a_key_error():
    n = NetSpec()
    n.conv1 = data()
    assert not hasattr(n, "conv2")
    for kind in (AttributeError, KeyError):
        with pytest.raises(kind, match="no top 'conv2' in this NetSpec: did you mean 'conv1'"):
            n["conv2"]


def test_inputs_and_assigned_values_must_be_tops():
    says = r"^Eltwise input 1 is not a Top \(type is <class 'tuple'>\)$"  # BVLC's, no word more
    with pytest.raises(TypeError, match=says):
        L.Eltwise(data(), L.Slice(data(), ntop=2))
    for wrong in (3, None, (data(), 3)):
        with pytest.raises(TypeError, match="NetSpec.halves must be what a layer returned"):
            NetSpec().halves = wrong


def test_several_tops_can_be_kept_until_each_has_its_name():
    n = NetSpec()
    n["pair"] = L.MemoryData(ntop=2, batch_size=1, channels=1, height=1, width=1)
    assert isinstance(n.pair, tuple) and [top.n for top in n.pair] == [0, 1]
    with pytest.raises(AttributeError, match="NetSpec.pair holds 2 tops: give each a name"):
        n.to_proto()  # in BVLC Caffe: 'tuple' object has no attribute '_to_proto'
    n.pair, n.label = n.pair
    assert list(n.to_proto().layer[0].top) == ["pair", "label"]


def test_assign_proto_names_the_message():
    with pytest.raises(AttributeError, match="SolverParameter has no field 'base_rl'.*'base_lr'"):
        net_spec.assign_proto(caffe_pb2.SolverParameter(), "base_rl", 0.1)


def test_specs_and_pseudo_modules_can_be_copied():
    n = NetSpec()
    n.data = data()
    assert copy.deepcopy(n).to_proto() == n.to_proto()
    assert copy.copy(L).ReLU(n.data).to_proto() == L.ReLU(n.data).to_proto()
    assert copy.copy(P).Pooling.AVE == P.Pooling.AVE
