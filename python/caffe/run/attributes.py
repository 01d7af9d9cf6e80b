"""Attributes: which of those of some objects a pass has changed, and how they were before."""

import weakref

import torch


class Attributes:
    """What the attributes of some objects were; it keeps no tensor alive."""

    def __init__(self, parts):
        self._marks = [
            (part, {name: _mark(value) for name, value in vars(part).items()}) for part in parts
        ]

    def changed(self):
        """[(object, {name: value} of the attributes that are others now)]"""
        found = [
            (
                part,
                {
                    name: value
                    for name, value in vars(part).items()
                    if name not in marks or not _is(value, marks[name])
                },
            )
            for part, marks in self._marks
        ]
        return [(part, state) for part, state in found if state]

    def restore(self):
        """Set them back."""
        for part, marks in self._marks:
            for name in set(vars(part)) - set(marks):
                del vars(part)[name]
            vars(part).update((name, _marked(mark)) for name, mark in marks.items())


def _mark(value):
    if isinstance(value, torch.Tensor):
        return weakref.ref(value)
    if type(value) in (tuple, list):
        return type(value), [_mark(each) for each in value]
    return value


def _is(value, mark):
    """Whether an attribute is still what was marked."""
    if isinstance(value, torch.Tensor):
        return isinstance(mark, weakref.ref) and mark() is value
    if type(value) in (tuple, list):
        return (
            type(mark) is tuple
            and mark[0] is type(value)
            and len(mark[1]) == len(value)
            and all(map(_is, value, mark[1]))
        )
    return value is mark


def _marked(mark):
    """What was marked; None in place of tensors that are gone."""
    if isinstance(mark, weakref.ref):
        return mark()
    if type(mark) is tuple:
        return mark[0](_marked(each) for each in mark[1])
    return mark
