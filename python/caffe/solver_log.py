"""Caffe's log lines: what existing log parsers read."""

import logging
import time
from collections import deque

logger = logging.getLogger("caffe")


class GlogFormatter(logging.Formatter):
    """glog's line: `I1231 23:59:59.123456  4711 solver.cpp:239] message`."""

    def format(self, record):
        seconds = time.localtime(record.created)
        micro = int(record.created % 1 * 1e6)
        text = super().format(record)
        return (f"{record.levelname[0]}{time.strftime('%m%d %H:%M:%S', seconds)}.{micro:06d} "
                f"{record.process:5d} {record.module}.cpp:{record.lineno}] {text}")


class SolverLog:
    """Writes a solver's lines: smoothed loss, outputs of the nets, learning rate."""

    def __init__(self, param):
        self.param = param
        self._losses = deque(maxlen=max(param.average_loss, 1))
        self._shown_at = None  # (iteration, seconds)

    def line(self, text):
        logger.info(text)

    def iteration(self, solver, loss):
        """After a backward pass: at every `display` iterations, all that Caffe prints."""
        self._losses.append(loss)
        if not self.param.display or solver.iter % self.param.display:
            return
        now = time.monotonic()
        before, since = self._shown_at or (solver.iter, now)
        done, passed = solver.iter - before, max(now - since, 1e-9)
        speed = done / passed if done else 0.0
        self._shown_at = (solver.iter, now)
        self.line(f"Iteration {solver.iter} ({speed:.6g} iter/s, {passed if done else 0:.6g}s/"
                  f"{self.param.display} iters), loss = {sum(self._losses) / len(self._losses):.6g}")
        self._outputs("Train", solver.net, {
            name: solver.net.blobs[name].data for name in solver.net.outputs})
        self.line(f"Iteration {solver.iter}, lr = {solver.learning_rate():.6g}")

    def testing(self, iteration, index):
        self.line(f"Iteration {iteration}, Testing net (#{index})")

    def test_loss(self, loss):
        self.line(f"Test loss: {loss:.6g}")

    def test_outputs(self, net, means):
        self._outputs("Test", net, means)

    def _outputs(self, phase, net, values):
        weights, number = net.blob_loss_weights, 0
        for name, array in values.items():
            for value in array.ravel():
                weight = weights[name]
                share = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
                self.line(f"    {phase} net output #{number}: {name} = {value:.6g}{share}")
                number += 1
