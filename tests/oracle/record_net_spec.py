"""Record what BVLC Caffe's NetSpec makes from the scripts below, for tests/test_net_spec.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_net_spec.py
                                                        (writes tests/golden/net_spec.json)

A script is a function of the module caffe.net_spec; it returns a message.
"""
# ruff: noqa: C408 (dict() with keywords is how pycaffe's users write messages)

import importlib
import json
import os

from google.protobuf import text_format

GOLDEN = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden", "net_spec.json"
)


def lenet(spec):
    """Named layers, a layer with two tops, in-place ReLU, dicts, constants."""
    L, P, n = spec.layers, spec.params, spec.NetSpec()
    n.data, n.label = L.Data(
        batch_size=64,
        backend=P.Data.LMDB,
        source="train_lmdb",
        transform_param=dict(scale=1.0 / 255),
        ntop=2,
    )
    n.conv1 = L.Convolution(
        n.data,
        kernel_size=5,
        num_output=20,
        weight_filler=dict(type="xavier"),
        param=dict(lr_mult=2),
    )
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.AVE)
    n.fc1 = L.InnerProduct(
        n.pool1,
        num_output=500,
        weight_filler=dict(type="xavier"),
        param=[dict(lr_mult=1), dict(lr_mult=2, decay_mult=0)],
    )
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=10)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n.to_proto()


def automatic_names(spec):
    """Tops without names: numbered by type, in the order in which they are reached."""
    L = spec.layers
    data = L.DummyData(shape=dict(dim=[2, 3, 8, 8]))
    left = L.ReLU(L.Convolution(data, num_output=4, kernel_size=3), in_place=True)
    right = L.Convolution(data, num_output=4, kernel_size=3, pad=[0, 1])
    return spec.to_proto(L.Concat(right, left, axis=2), L.AbsVal(left))


def one_top(spec):
    """Top.to_proto takes only what leads to the top."""
    L, n = spec.layers, spec.NetSpec()
    n.data = L.Input(shape=[dict(dim=[1, 2]), dict(dim=3)], ntop=2)[0]
    n.fc = L.InnerProduct(n.data, num_output=3)
    n.other = L.ReLU(n.fc)
    return n.fc.to_proto()


def half_named(spec):
    """A named layer over nameless ones, and a name that is used again."""
    L, n = spec.layers, spec.NetSpec()
    n.x = L.DummyData(shape=dict(dim=[1, 4, 5, 5]))
    n.x = L.ReLU(n.x, in_place=True)
    n["y/1"] = L.Eltwise(n.x, L.Sigmoid(n["x"]), coeff=[1, -1])
    n.z = n["y/1"]
    return n.to_proto()


def several_tops(spec):
    """Tops of one layer of which the second gets its name first; one without a name."""
    L, n = spec.layers, spec.NetSpec()
    n.data = L.DummyData(shape=dict(dim=[1, 6]))
    parts = L.Slice(n.data, ntop=3, slice_point=[1, 2], axis=1)
    n.middle, n.first = parts[1], parts[0]
    n.join = L.Concat(*parts)
    return n.to_proto()


def no_top(spec):
    """Layers without tops, one of them without a name."""
    L, n = spec.layers, spec.NetSpec()
    n.data = L.DummyData(shape=dict(dim=[1, 6]))
    n.quiet = L.Silence(n.data, ntop=0)
    return spec.to_proto(n.data.fn.tops[0], _top_of(n.quiet), _top_of(L.Silence(n.data, ntop=0)))


def _top_of(function):
    """A Top for a layer that has none, so that to_proto can reach it."""
    return type(function.inputs[0])(function, 0)


def fields_of_the_layer(spec):
    """Arguments that the type's parameters lack belong to the layer; *_param always does."""
    L, P, n = spec.layers, spec.params, spec.NetSpec()
    n.data = L.Input(input_param=dict(shape=dict(dim=[4, 3])), name="pixels")
    n.drop = L.Dropout(n.data, dropout_ratio=0.25, include=dict(phase=0, not_stage=["a", "b"]))
    n.scaled = L.Scale(n.drop, axis=0, num_axes=-1, bias_term=True, propagate_down=False)
    n.loss = L.SoftmaxWithLoss(
        n.scaled,
        n.data,
        loss_weight=0.5,
        phase=1,
        propagate_down=[1, 0],
        loss_param=dict(normalization=P.Loss.VALID, ignore_label=255),
    )
    n.top2 = L.Accuracy(n.scaled, n.data, top_k=2, exclude=[dict(stage="x"), dict(min_level=2)])
    return n.to_proto()


def custom_layers(spec):
    """Python layers, recurrent ones, and types that Caffe does not know."""
    L, n = spec.layers, spec.NetSpec()
    n.rows, n.cont = L.Python(module="my_data", layer="Rows", param_str="{'n': 3}", ntop=2)
    n.lstm = L.LSTM(n.rows, n.cont, recurrent_param=dict(num_output=7))
    n.mine = L.MyOwnLayer(n.lstm, convolution_param=dict(num_output=2), name="renamed")
    n.p = L.PReLU(n.mine, channel_shared=True, filler=dict(value=0.1), in_place=True)
    n.fill = L.DummyData(data_filler=[dict(type="constant", value=3)], num=1, channels=[2])
    return n.to_proto()


def assigned(spec):
    """assign_proto on a message of any kind."""
    pb = importlib.import_module("caffe.proto.caffe_pb2")
    solver = pb.SolverParameter()
    for name, value in dict(
        net="x.prototxt",
        test_iter=[1, 2],
        stepvalue=9,
        base_lr=0.1,
        train_state=dict(stage="a", level=1),
        solver_mode=1,
        test_state=[dict(stage=["a", "b"]), {}],
    ).items():
        spec.assign_proto(solver, name, value)
    return solver


def table_of_parameters(spec):
    """param_name_dict, told as the bottoms of one layer; without what forks add."""
    pb = importlib.import_module("caffe.proto.caffe_pb2")
    known = pb.LayerParameter.DESCRIPTOR.fields_by_name
    table = spec.param_name_dict().items()
    return pb.LayerParameter(
        bottom=sorted(
            f"{s}: {field}" for s, field in table if known[f"{field}_param"].number < 1000
        )
    )


def constants(spec):
    """Constants of params, told as the bottoms of one layer."""
    P, pb = spec.params, importlib.import_module("caffe.proto.caffe_pb2")
    values = {
        "MAX": P.Pooling.MAX,
        "AVE": P.Pooling.AVE,
        "LEVELDB": P.Data.LEVELDB,
        "SUM": P.Eltwise.SUM,
        "PROD": P.Eltwise.PROD,
        "FAN_OUT": P.Filler.FAN_OUT,
        "LMDB": P.Data.DB.Value("LMDB"),
        "L1": P.HingeLoss.L1,
        "BATCH": P.Loss.BATCH_SIZE,
    }
    return pb.LayerParameter(bottom=[f"{name} {value}" for name, value in values.items()])


SCRIPTS = [
    lenet,
    automatic_names,
    one_top,
    half_named,
    several_tops,
    no_top,
    fields_of_the_layer,
    custom_layers,
    assigned,
    table_of_parameters,
    constants,
]


def main():
    """Run every script on the NetSpec that is installed."""
    import golden

    spec = importlib.import_module("caffe.net_spec")
    texts = {script.__name__: text_format.MessageToString(script(spec)) for script in SCRIPTS}
    golden.save_text(GOLDEN, json.dumps(texts, indent=1) + "\n")
    print(f"{len(texts)} scripts")


if __name__ == "__main__":
    main()
