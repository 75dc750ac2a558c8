import torch
from hypothesis import given
from hypothesis import strategies as st

from ganc_nni.data import EpochOrder, drawing

lengths, seeds, epochs = st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(0, 1000)


def shown(length: int, seed: int, epoch: int, first: int = 0) -> list[int]:
    order = EpochOrder(length, seed)
    order.begin_at(epoch, first)
    return list(order)


@given(lengths, seeds, epochs)
def test_an_epoch_shows_each_image_once(length: int, seed: int, epoch: int) -> None:
    assert sorted(shown(length, seed, epoch)) == list(range(epoch * length, (epoch + 1) * length))


@given(lengths, seeds, epochs, st.data())
def test_an_epoch_that_was_cut_goes_on_where_it_was(length: int, seed: int, epoch: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, length))
    order = EpochOrder(length, seed)
    order.begin_at(epoch, first)
    assert len(order) == length  # a loader is as long as its epoch
    order.set_epoch(epoch)  # as Lightning does when it has begun to load
    assert list(order) == list(order) == shown(length, seed, epoch)[first:]
    order.set_epoch(epoch + 1)
    assert list(order) == shown(length, seed, epoch + 1)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        tuple(number % 30 for number in shown(30, seed, epoch)) for seed in (0, 1, 2**32 - 1) for epoch in range(9)
    }
    assert len(orders) == 27


def test_each_number_draws_its_own() -> None:
    draws = [float(torch.rand((), generator=drawing(3, number))) for number in range(2000)]
    assert draws == [float(torch.rand((), generator=drawing(3, number))) for number in range(2000)]
    assert len(set(draws)) > 1990
    assert abs(sum(draws) / 2000 - 0.5) < 0.03
    neighbours = torch.tensor([draws[:-1], draws[1:]])
    assert abs(float(torch.corrcoef(neighbours)[0, 1])) < 0.1


@given(lengths, seeds, epochs, st.integers(1, 5))
def test_processes_share_an_epoch_in_equal_parts(length: int, seed: int, epoch: int, processes: int) -> None:
    parts = []
    for number in range(processes):
        order = EpochOrder(length, seed, number, processes)
        order.begin_at(epoch)
        parts.append(list(order))
    assert {len(part) for part in parts} == {length // processes}
    together = [each for part in parts for each in part]
    assert len(set(together)) == len(together)
    assert set(together) <= set(shown(length, seed, epoch))
    whole = shown(length, seed, epoch)
    assert all(part == whole[number::processes][: len(part)] for number, part in enumerate(parts))


@given(lengths, seeds)
def test_an_order_begins_with_the_first_epoch(length: int, seed: int) -> None:
    assert list(EpochOrder(length, seed)) == shown(length, seed, 0)
