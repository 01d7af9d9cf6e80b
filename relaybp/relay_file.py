"""relay.prototxt: the schedule, and for each loss the lowest layer that it trains.

    schedule: RELAY
    flow { loss: "loss"     to: "res4a" }
    flow { loss: "aux_loss" to: "conv1" }

The message is built at import, so any protobuf from 3.12 on reads it.
"""

import os

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from .errors import RelayError, nearest

SCHEDULES = ("STANDARD", "JOINT", "RELAY", "PAIR_WISE", "MULTI_WAY")


def _message_class():
    """The class of RelayParameter: schedule, flow { loss, to }, frozen."""
    file = descriptor_pb2.FileDescriptorProto(
        name="relaybp/relay.proto", package="relaybp", syntax="proto2")
    field = descriptor_pb2.FieldDescriptorProto
    flow = file.message_type.add(name="Flow")
    flow.field.add(name="loss", number=1, label=field.LABEL_REQUIRED, type=field.TYPE_STRING)
    flow.field.add(name="to", number=2, label=field.LABEL_REQUIRED, type=field.TYPE_STRING)
    relay = file.message_type.add(name="RelayParameter")
    schedule = relay.enum_type.add(name="Schedule")
    for number, name in enumerate(SCHEDULES):
        schedule.value.add(name=name, number=number)
    relay.field.add(name="schedule", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_ENUM,
                    type_name=".relaybp.RelayParameter.Schedule", default_value="RELAY")
    relay.field.add(name="flow", number=2, label=field.LABEL_REPEATED, type=field.TYPE_MESSAGE,
                    type_name=".relaybp.Flow")
    relay.field.add(name="frozen", number=3, label=field.LABEL_REPEATED, type=field.TYPE_STRING)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName("relaybp.RelayParameter")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


RelayParameter = _message_class()


def read_relay(path):
    """The RelayParameter of a relay.prototxt, checked as far as it can be without a net."""
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
    losses = [flow.loss for flow in relay.flow]
    for loss in losses:
        if losses.count(loss) > 1:
            raise RelayError("%s: loss %r has %d flows; give it one" % (
                source, loss, losses.count(loss)))
    name = schedule_name(relay)
    if name == "RELAY" and not relay.flow:
        raise RelayError(f"{source}: schedule RELAY needs a flow for every loss, as in "
                         'flow { loss: "loss" to: "conv1" }')
    if name == "STANDARD" and relay.flow:
        raise RelayError(f"{source}: schedule STANDARD has one loss, which trains every layer; "
                         "delete the flows")
    return relay


def schedule_name(relay):
    """The schedule as a word: RELAY, JOINT, ..."""
    return SCHEDULES[relay.schedule]


def _hint(error):
    words = error.replace('"', " ").replace("'", " ").replace(".", " ").split()
    unknown = words[-1] if words else ""
    if "named" in words:
        unknown = words[words.index("named") + 1]
    elif "value" in words:
        unknown = words[words.index("value") + 1]
    known = ["schedule", "flow", "frozen", "loss", "to"] + list(SCHEDULES)
    return nearest(unknown, known)
