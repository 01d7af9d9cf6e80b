"""What a training does about a loss or a gradient that is not finite: --on-nan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import NotFiniteError
from .finite import Mark, check_weights

if TYPE_CHECKING:
    from .trainer import Trainer

POLICIES = STOP, SKIP, ROLLBACK = "stop", "skip", "rollback"
MOST_SKIPPED = 10  # batches, without an update in between
MOST_ROLLBACKS = 3  # without getting further


class Recovery:
    """Serves the NotFiniteErrors of a training.

    policy: STOP raises them; SKIP leaves the batch out and takes the next one for the same
    iteration; ROLLBACK goes back to the newest whole snapshot, the next time to the one before it,
    and on with the records that come after the batch. Both stop where it does not help.
    """

    def __init__(self, trainer: Trainer, policy: str):
        self._trainer, self._policy = trainer, policy
        self._furthest, self._tries = -1, 0
        self._before: int | None = None  # the iteration to which it has gone back

    def serve(self, error: NotFiniteError) -> None:
        """Let the training go on after `error`, or raise it, with what one can do."""
        trainer = self._trainer
        trainer.late.forget()
        if trainer.relay.iter > self._furthest:
            self._furthest, self._tries, self._before = trainer.relay.iter, 0, None
        self._tries += 1
        if self._policy == SKIP and not trainer.relay.is_whole:
            raise NotFiniteError(
                f"{error}. Another loss has made an update of this batch, which cannot be left out "
                "any more; --on-nan rollback can go on"
            ) from error
        if self._policy == SKIP and self._tries <= MOST_SKIPPED:
            check_weights(trainer.relay.net, f"{error}; the weights cannot go on, either")
            trainer.report.say(f"{error}. Left out, as --on-nan skip says")
        elif self._policy == ROLLBACK and self._tries <= MOST_ROLLBACKS:
            self._go_back(error)
        else:
            raise NotFiniteError(f"{error}. {self._advice()}") from error
        trainer.go_on_from(trainer.relay.iter)

    def _go_back(self, error: NotFiniteError) -> None:
        relay = self._trainer.relay
        state = self._trainer.newest(self._before)
        if state is None:
            raise NotFiniteError(f"{error}. There is no older snapshot to go back to") from error
        self._trainer.report.say(f"{error}. Going back to {state}, as --on-nan rollback says")
        ahead = Mark(relay.engine, relay.net)
        relay.restore(state)
        self._before = relay.iter
        ahead.move_data()

    def _advice(self) -> str:
        if self._policy == SKIP:
            return f"{MOST_SKIPPED} batches in a row have been left out; it does not help"
        if self._policy == ROLLBACK:
            return f"It has gone back {MOST_ROLLBACKS} times; it does not help"
        state = self._trainer.newest()
        kept = f"The newest whole snapshot is {state}" if state else "There is no snapshot yet"
        return f"{kept}; a lower base_lr, clip_gradients, or --on-nan skip or rollback may help"
