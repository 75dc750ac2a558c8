import pytest
import torch

from ganc_nni.training.pool import ImagePool


def numbered(*numbers):
    """Images that are told apart by their value."""
    return torch.tensor([float(number) for number in numbers]).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def run(pool, steps):
    return [int(pool.query(numbered(step)).mean()) for step in steps]


def test_size_zero_hands_back():
    pool = ImagePool(0, seed=0)
    assert run(pool, range(5)) == [0, 1, 2, 3, 4]
    assert len(pool) == 0


def test_fills_first_then_keeps_its_size():
    pool = ImagePool(4, seed=0)
    assert run(pool, range(4)) == [0, 1, 2, 3]
    run(pool, range(4, 50))
    assert len(pool) == 4


def test_half_are_new_and_half_are_old_and_each_old_comes_once():
    pool = ImagePool(10, seed=0)
    returned = run(pool, range(2010))
    new = sum(returned[step] == step for step in range(10, 2010))
    assert 900 < new < 1100  # four and a half standard deviations
    old = [number for step, number in enumerate(returned[10:], 10) if number != step]
    assert len(old) == len(set(old))


def test_every_place_is_exchanged():
    pool = ImagePool(5, seed=0)
    run(pool, range(200))
    kept = [int(image.mean()) for image in pool.state_dict()["pictures"]]
    assert min(kept) > 100


def test_shape_and_gradient():
    pool = ImagePool(3, seed=0)
    images = numbered(*range(8)).clone().requires_grad_()
    returned = pool.query(images)
    assert returned.shape == images.shape
    assert not returned.requires_grad
    assert not ImagePool(0, seed=0).query(images).requires_grad


def test_kept_images_do_not_hold_their_batch():
    pool = ImagePool(2, seed=0)
    pool.query(numbered(*range(8)).clone())
    assert len(pool) == 2
    for image in pool.state_dict()["pictures"]:
        assert image.untyped_storage().nbytes() == image.numel() * image.element_size()


def test_seed_decides():
    first, same, other = (run(ImagePool(4, seed), range(60)) for seed in (0, 0, 1))
    assert first == same != other


def test_global_seeds_do_not_matter():
    torch.manual_seed(0)
    first = run(ImagePool(4, 0), range(60))
    torch.manual_seed(1)
    assert run(ImagePool(4, 0), range(60)) == first


def test_resumes_exactly():
    pool = ImagePool(4, seed=0)
    run(pool, range(30))
    state = pool.state_dict()
    resumed = ImagePool(4, seed=99)
    resumed.load_state_dict(state)
    assert run(resumed, range(30, 90)) == run(pool, range(30, 90))


def test_state_does_not_follow_the_pool(tmp_path):
    pool = ImagePool(4, seed=0)
    run(pool, range(4))
    state = pool.state_dict()
    run(pool, range(4, 40))
    assert [int(image.mean()) for image in state["pictures"]] == [0, 1, 2, 3]
    torch.save(state, tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=True)


def test_smaller_pool_drops_images():
    pool = ImagePool(4, seed=0)
    run(pool, range(4))
    smaller = ImagePool(2, seed=0)
    smaller.load_state_dict(pool.state_dict())
    assert len(smaller) == 2
    run(smaller, range(40))
    assert len(smaller) == 2


def test_negative_size_is_refused():
    with pytest.raises(ValueError, match="size -1"):
        ImagePool(-1, seed=0)


def test_an_image_that_a_loaded_pool_hands_back_is_like_the_new_ones():
    """Of their type and on their device, whatever the pool was saved with."""
    pool = ImagePool(1, seed=0)
    state = ImagePool(1, seed=0).state_dict()
    pool.load_state_dict({**state, "pictures": [numbered(7).double()[0]]})
    returned = [pool.query(numbered(step)) for step in range(20)]
    assert all(each.dtype == torch.float32 for each in returned)
    assert any(int(each.mean()) == 7 for each in returned)
