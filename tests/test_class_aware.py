"""The orders of records against their definitions; class-aware sampling at the paper's size."""

import tracemalloc

import numpy as np
import pytest

from benchmarks.sampling import places2_labels
from relaybp.layers.class_aware import ClassAware, KeyOrder, ShuffledOrder

PLACES2_CLASSES = 401


def unequal_labels(classes, smallest, largest, seed=0):
    """Shuffled labels of classes of `smallest` to `largest` records."""
    random = np.random.RandomState(seed)
    labels = np.repeat(np.arange(classes), random.randint(smallest, largest + 1, classes))
    return random.permutation(labels).astype(np.int32)


def by_definition(labels, seed, count):
    """The records that the two lists and their shuffles give, one draw after the other."""

    def shuffled(values, *numbers):
        return iter(
            np.asarray(values)[
                np.random.RandomState([seed, 0, *numbers]).permutation(len(values))
            ].tolist()
        )

    classes = np.unique(labels)
    images = {k: np.flatnonzero(labels == k) for k in classes}
    rounds, passes = 0, dict.fromkeys(classes, 0)
    class_list = shuffled(range(len(classes)), 0, 0)
    image_lists = {k: shuffled(images[k], 1, i, 0) for i, k in enumerate(classes)}
    for _ in range(count):
        index = next(class_list, None)
        if index is None:
            rounds += 1
            class_list = shuffled(range(len(classes)), 0, rounds)
            index = next(class_list)
        k = classes[index]
        record = next(image_lists[k], None)
        if record is None:
            passes[k] += 1
            image_lists[k] = shuffled(images[k], 1, index, passes[k])
            record = next(image_lists[k])
        yield record


@pytest.mark.parametrize(
    "labels",
    [
        unequal_labels(7, 1, 12),
        unequal_labels(1, 5, 5),
        np.array([4, 4, 9, 4, 0]),
        np.full(3, 70000),
        unequal_labels(40, 1, 3),
    ],
    ids=range(5),
)
@pytest.mark.parametrize("batch", [1, 8, 100])
def test_it_is_the_definition_whatever_the_batch(labels, batch):
    order = ClassAware(labels, seed=11)
    drawn = np.concatenate(
        [order.draw(np.arange(start, start + batch)) for start in range(0, 400, batch)]
    )
    assert drawn.tolist() == list(by_definition(labels, 11, len(drawn)))


def test_every_class_once_a_round_and_every_image_once_a_pass():
    """401 classes of unequal sizes, five passes over the largest."""
    labels = unequal_labels(PLACES2_CLASSES, 40, 300)
    sizes = np.bincount(labels)
    rounds = 5 * sizes.max()
    drawn = ClassAware(labels, 1).draw(np.arange(rounds * PLACES2_CLASSES))
    by_round = np.sort(labels[drawn].reshape(rounds, PLACES2_CLASSES), axis=1)
    assert (by_round == np.arange(PLACES2_CLASSES)).all()
    for k, size in enumerate(sizes):
        mine = drawn[labels[drawn] == k]
        passes = mine[: len(mine) // size * size].reshape(-1, size)
        assert (np.sort(passes, axis=1) == np.flatnonzero(labels == k)).all()
        assert not (passes[0] == passes[1]).all()


def chi_square_limit(freedom, deviations=3.5):
    """The value that chi-square exceeds about twice in ten thousand times (Wilson and Hilferty)."""
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + deviations * spread**0.5) ** 3


def test_classes_and_images_are_uniform_at_every_place_of_their_lists():
    labels = unequal_labels(30, 20, 20)
    drawn = ClassAware(labels, 2).draw(np.arange(30 * 20 * 60))
    slots = np.arange(len(drawn)) % 30
    for values, places, count in (
        (labels[drawn], slots, 30),
        (drawn % 20, np.arange(len(drawn)) // 30 % 20, 20),
    ):
        table = np.zeros((count, count))
        np.add.at(table, (places, values), 1)
        expected = table.sum() / count**2
        # rows and columns are exact for the classes, so (count - 1)^2 degrees are free at least
        assert ((table - expected) ** 2 / expected).sum() < chi_square_limit(count * (count - 1))


def test_a_draw_in_the_middle_of_an_epoch_is_uniform_over_the_classes():
    labels = unequal_labels(PLACES2_CLASSES, 1, 9)
    counts = np.zeros(PLACES2_CLASSES)
    for seed in range(300):
        np.add.at(counts, labels[ClassAware(labels, seed).draw(np.arange(500, 564))], 1)
    expected = counts.sum() / PLACES2_CLASSES
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < chi_square_limit(PLACES2_CLASSES - 1)


ORDERS = {
    "keys": lambda: KeyOrder(23),
    "shuffled": lambda: ShuffledOrder(23, 5),
    "class aware": lambda: ClassAware(unequal_labels(6, 2, 9), 5),
}


@pytest.mark.parametrize("name", ORDERS)
def test_any_position_continues_and_processes_share(name):
    whole = ORDERS[name]().draw(np.arange(1000))
    for start in (0, 1, 17, 500, 3):
        order = ORDERS[name]()
        order.draw(np.arange(900, 950))  # what it did before does not matter
        np.testing.assert_array_equal(order.draw(np.arange(start, 700)), whole[start:700])
    shares = np.empty_like(whole)
    for rank in range(3):
        order = ORDERS[name]()
        for first in range(rank, 1000, 30):
            positions = np.arange(first, min(first + 30, 1000), 3)
            shares[positions] = order.draw(positions)
    np.testing.assert_array_equal(shares, whole)


@pytest.mark.parametrize(
    "make", [lambda seed: ShuffledOrder(50, seed), lambda seed: ClassAware(np.arange(50) % 5, seed)]
)
def test_the_seed_decides(make):
    first = make(1).draw(np.arange(100))
    np.testing.assert_array_equal(make(1).draw(np.arange(100)), first)
    assert (make(2).draw(np.arange(100)) != first).any()
    assert (make(1 + (1 << 32)).draw(np.arange(100)) != first).any()


def test_a_shuffled_epoch_holds_every_record_once():
    drawn = ShuffledOrder(40, 3).draw(np.arange(120)).reshape(3, 40)
    assert (np.sort(drawn, axis=1) == np.arange(40)).all()
    assert (drawn[0] != drawn[1]).any()


def test_the_size_of_places2():
    """8.1 million records: memory, and one epoch; benchmarks/sampling.py measures the times."""
    labels = places2_labels()
    sizes = np.bincount(labels)
    assert len(labels) == 8_100_000 and len(sizes) == PLACES2_CLASSES
    assert sizes.min() >= 4_000 and sizes.max() <= 30_000
    tracemalloc.start()
    order = ClassAware(labels, 1)
    drawn = np.concatenate(
        [order.draw(np.arange(first, first + 401_000)) for first in range(0, 4_010_000, 401_000)]
    )
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes + labels.nbytes < 200e6
    assert (np.bincount(labels[drawn]) == 10_000).all()
    times = np.bincount(drawn, minlength=len(labels))  # each image
    passes = 10_000 // sizes[labels]
    assert ((times == passes) | (times == passes + 1)).all()
