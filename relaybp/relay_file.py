"""relay.prototxt: the schedule, and for each loss the lowest layer that it trains.

    schedule: RELAY
    flow { loss: "loss"     to: "res4a" }
    flow { loss: "aux_loss" to: "conv1" }

README.md beside this file lists every field. The message is built at import, so any protobuf
from 3.12 on reads it.
"""

import os
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from caffe_plain.errors import nearest

from .errors import RelayError

SCHEDULES = ("STANDARD", "JOINT", "RELAY", "PAIR_WISE", "MULTI_WAY")
ONE_STEP_PER_LOSS = ("PAIR_WISE", "MULTI_WAY")
REFERENCES = ("FINAL", "DEEPEST_AUXILIARY")

# message: rows of (number, field, type, default; None: a field without one, [] a repeated one)
_MESSAGES = {
    "Flow": [
        (1, "loss", "string", None),
        (2, "to", "string", None),
        (3, "depth", "uint32", None),
        (4, "weight", "double", None),
    ],
    "WeightLaw": [
        (1, "gamma", "double", None),
        (2, "floor", "double", 0.0),
        (3, "drop_below", "double", 0.0),
        (4, "reference", REFERENCES, "FINAL"),
        (5, "spare_scores", "bool", "false"),
    ],
    "Step": [
        (1, "normalize", "bool", "false"),
        (2, "own_momentum", "bool", "true"),
        (3, "loss_ratio_guard", "double", 0.0),
    ],
    "RelayParameter": [
        (1, "schedule", SCHEDULES, "RELAY"),
        (2, "flow", "Flow", []),
        (3, "frozen", "string", []),
        (4, "weight_law", "WeightLaw", None),
        (5, "step", "Step", None),
    ],
}


def _message_class():
    """The class of RelayParameter."""
    file = descriptor_pb2.FileDescriptorProto(
        name="relaybp/relay.proto", package="relaybp", syntax="proto2"
    )
    for name, rows in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for row in rows:
            _add_field(message, *row)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName("relaybp.RelayParameter")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def _add_field(message, number, name, kind, default):
    kinds = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=number)
    field.label = kinds.LABEL_REPEATED if default == [] else kinds.LABEL_OPTIONAL
    if isinstance(kind, tuple):
        enum = message.enum_type.add(name=name.title())
        for value, word in enumerate(kind):
            enum.value.add(name=word, number=value)
        field.type, field.type_name = kinds.TYPE_ENUM, f".relaybp.{message.name}.{enum.name}"
    elif kind in _MESSAGES:
        field.type, field.type_name = kinds.TYPE_MESSAGE, f".relaybp.{kind}"
    else:
        field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    if default not in (None, []):
        field.default_value = str(default)


RelayParameter = _message_class()


def read_relay(path):
    """The RelayParameter of a relay.prototxt, checked as far as possible without a net."""
    if not os.path.exists(path):
        raise RelayError(f"{path}: no such file; a relay file holds a schedule and its flows")
    with open(path, encoding="utf-8") as file:
        return parse_relay(file.read(), path)


def parse_relay(text, source="relay.prototxt"):
    """The RelayParameter of a relay file's text; `source` names it in errors."""
    relay = RelayParameter()
    try:
        text_format.Merge(text, relay)
    except text_format.ParseError as error:
        raise RelayError(f"{source}: {error}; {_hint(str(error))}") from None
    return check_relay(relay, source)


def check_relay(relay: Any, source: str) -> Any:
    """Return the RelayParameter; raise RelayError for what is wrong with it without a net."""
    problem = next(_problems(relay), None)
    if problem:
        raise RelayError(f"{source}: {problem}")
    return relay


def schedule_name(relay):
    """The schedule as a word: RELAY, JOINT, ..."""
    return SCHEDULES[relay.schedule]


def _problems(relay):
    """What is wrong with a RelayParameter, as far as can be told without a net."""
    name, law, step = schedule_name(relay), relay.weight_law, relay.step
    losses = [flow.loss for flow in relay.flow]
    for flow in relay.flow:
        if not (flow.HasField("loss") and flow.HasField("to")):
            yield (
                "a flow needs a loss and the lowest layer that it trains, as in "
                'flow { loss: "loss" to: "conv1" }'
            )
        if losses.count(flow.loss) > 1:
            yield f"loss {flow.loss!r} has {losses.count(flow.loss)} flows; give it one"
        if flow.weight < 0:
            yield f"flow of loss {flow.loss!r}: weight {flow.weight:g}; expected 0 or more"
    if name == "RELAY" and not relay.flow:
        yield (
            'schedule RELAY needs a flow for every loss, as in flow { loss: "loss" to: "conv1" }'
        )
    if name == "STANDARD":
        for field in ("flow", "weight_law", "step"):
            if len(relay.flow) if field == "flow" else relay.HasField(field):
                yield (
                    f"schedule STANDARD has one loss, which trains every layer; "
                    f"delete the {field}{'s' * (field == 'flow')}"
                )
    for field in ("gamma", "floor", "drop_below"):
        if getattr(law, field) < 0:
            yield f"weight_law: {field} {getattr(law, field):g}; expected 0 or more"
    if not law.HasField("gamma"):
        for field in ("floor", "reference"):
            if law.HasField(field):
                yield f"weight_law: {field} belongs to the law (depth / reference)^gamma; add gamma"
    if name not in ONE_STEP_PER_LOSS:
        for field in ("own_momentum", "loss_ratio_guard"):
            if step.HasField(field):
                yield (
                    f"step: {field}: schedule {name} takes one step for all losses; delete it, "
                    f"or use {' or '.join(ONE_STEP_PER_LOSS)}"
                )
    if step.HasField("loss_ratio_guard") and step.loss_ratio_guard < 1:
        yield (
            f"step: loss_ratio_guard {step.loss_ratio_guard:g}; expected 1 or more: how many "
            "times the final loss a loss may be before its step is scaled down"
        )


def _hint(error):
    words = error.replace('"', " ").replace("'", " ").replace(".", " ").split()
    unknown = words[-1] if words else ""
    if "named" in words:
        unknown = words[words.index("named") + 1]
    elif "value" in words:
        unknown = words[words.index("value") + 1]
    known = [row[1] for rows in _MESSAGES.values() for row in rows]
    return nearest(unknown, [*SCHEDULES, *REFERENCES, *known])
