"""relay.prototxt: the schedule, and for each loss the lowest layer that it trains.

    schedule: RELAY
    flow { loss: "loss"     to: "res4a" }
    flow { loss: "aux_loss" to: "conv1" }

README.md beside this file lists every field, and relay.proto defines them.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from caffe_plain.errors import nearest
from caffe_plain.messages import read_messages

from .errors import RelayError

_MESSAGES = read_messages(Path(__file__).with_name("relay.proto"))
RelayParameter = _MESSAGES["RelayParameter"]
SCHEDULES = tuple(RelayParameter.Schedule.keys())
REFERENCES = tuple(_MESSAGES["WeightLaw"].Reference.keys())
ONE_STEP_PER_LOSS = ("PAIR_WISE", "MULTI_WAY")


def read_relay(path):
    """The RelayParameter of a relay.prototxt, checked as far as possible without a net."""
    if not os.path.exists(path):
        raise RelayError(f"{path}: no such file; a relay file holds a schedule and its flows")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise RelayError(f"{path}: not a readable text file: {error}") from None
    return parse_relay(text, path)


def parse_relay(text, source="relay.prototxt"):
    """The RelayParameter of a relay file's text; `source` names it in errors."""
    return check_relay(parse_fields(text, source), source)


def parse_fields(text: str, source: str = "relay.prototxt") -> Any:
    """The RelayParameter of a text that need not be a whole relay file."""
    relay = RelayParameter()
    try:
        text_format.Merge(text, relay)
    except text_format.ParseError as error:
        raise RelayError(f"{source}: {error}; {_hint(str(error))}") from None
    return relay


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
    flows_of = Counter(flow.loss for flow in relay.flow)
    for flow in relay.flow:
        if not (flow.HasField("loss") and flow.HasField("to")):
            yield (
                "a flow needs a loss and the lowest layer that it trains, as in "
                'flow { loss: "loss" to: "conv1" }'
            )
        if flows_of[flow.loss] > 1:
            yield f"loss {flow.loss!r} has {flows_of[flow.loss]} flows; give it one"
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
    messages = _MESSAGES["DESCRIPTOR"].message_types_by_name.values()
    known = [field.name for message in messages for field in message.fields]
    return nearest(unknown, [*SCHEDULES, *REFERENCES, *known])
