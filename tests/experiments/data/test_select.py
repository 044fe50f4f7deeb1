import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixbench.experiments.data.select import choose, folds_of, train_and_validation
from mixbench.experiments.errors import UserError

BALANCED = np.random.RandomState(0).permutation(np.repeat(np.arange(10), 300))


def split(labels, size, fraction=0.1, seed=0):
    return train_and_validation(
        labels, size=size, validation_fraction=fraction, seed=seed, name="these"
    )


def counts(labels, index):
    return np.bincount(labels[index], minlength=labels.max() + 1)


@given(size=st.integers(10, 3000), seed=st.integers(0, 2**40))
@settings(max_examples=40, deadline=None)
def test_balanced_classes_differ_by_one_at_most(size, seed):
    chosen = choose(BALANCED, size, seed)
    assert len(chosen) == len(np.unique(chosen)) == size
    assert np.ptp(counts(BALANCED, chosen)) <= 1
    assert np.ptp(counts(BALANCED, chosen)) == (size % 10 != 0)


def test_of_2000_images_1800_train_and_200_validate():
    labels = np.repeat(np.arange(10), 6000)
    train, validation = split(labels, 2000)
    assert counts(labels, train).tolist() == [180] * 10
    assert counts(labels, validation).tolist() == [20] * 10


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.2, 0.29, 0.5, 0.9])
@pytest.mark.parametrize("size", [100, 170, 999, 3000])
def test_validation_takes_its_share(fraction, size):
    train, validation = split(BALANCED, size, fraction)
    assert not np.isin(train, validation).any()
    assert len(train) + len(validation) == size
    assert abs(len(validation) - fraction * size) <= 1
    assert np.ptp(counts(BALANCED, validation)) <= 2
    assert counts(BALANCED, train).min() >= 1


@given(
    sizes=st.tuples(st.integers(40, 3000), st.integers(40, 3000)),
    seed=st.integers(0, 99),
    fraction=st.floats(0.05, 0.95),
)
@settings(max_examples=25, deadline=None)
def test_a_smaller_split_is_within_a_larger_one(sizes, seed, fraction):
    rare = np.repeat(np.arange(4), [2000, 700, 299, 1])
    for labels in (BALANCED, rare):
        small, large = (split(labels, size, fraction, seed) for size in sorted(sizes))
        assert np.isin(small[0], large[0]).all()
        assert np.isin(small[1], large[1]).all()


def test_unequal_classes_keep_their_shares_and_rare_ones_are_there():
    labels = np.repeat(np.arange(4), [2000, 700, 290, 10])
    assert counts(labels, choose(labels, 300, 0)).tolist() == [200, 70, 29, 1]
    assert counts(labels, choose(labels, 4, 0)).tolist() == [1, 1, 1, 1]
    train, _ = split(np.repeat([0, 1], [99, 1]), 100, 0.9)
    assert 99 in train  # the only image of its class is never taken for validation


def test_the_seed_decides_and_nothing_else():
    first, again, other = (choose(BALANCED, 500, seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert 0 < len(set(first) & set(other)) < 250
    state = np.random.get_state()[1].copy()
    choose(BALANCED, 500, 5)
    assert np.array_equal(np.random.get_state()[1], state)


def test_the_choice_is_the_same_in_every_release():
    labels = np.repeat(np.arange(3), 5)
    assert choose(labels, 6, 0).tolist() == [0, 3, 5, 6, 10, 11]
    train, validation = split(labels, 12, 0.25)
    assert train.tolist() == [1, 2, 3, 6, 8, 9, 10, 11, 12]
    assert validation.tolist() == [0, 5, 13]


@pytest.mark.parametrize(
    ("size", "fraction", "message"),
    [
        (3001, 0.1, r"train_size: got 3001, expected at most 3000, .* of these"),
        (9, 0.1, r"train_size: got 9, expected at least 10"),
        (10, 0.1, r"validation_fraction: 0.1 of 10 training images in 10 classes"),
    ],
)
def test_impossible_sizes_are_refused(size, fraction, message):
    with pytest.raises(UserError, match=message):
        split(BALANCED, size, fraction)


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_divide_classes_and_images_evenly(folds):
    labels = np.repeat(np.arange(5), [7, 40, 13, 101, 9])[np.random.RandomState(1).permutation(170)]
    first, again, other = (folds_of(labels, folds, repetition) for repetition in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    table = np.array([counts(labels, first == fold) for fold in range(folds)])
    assert table.sum(axis=0).tolist() == [7, 40, 13, 101, 9]
    assert np.ptp(table, axis=0).max() <= 1 and np.ptp(table.sum(axis=1)) <= 1
