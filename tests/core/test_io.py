import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_into, load_weights, save_weights, write_atomically, write_text

ENDINGS = (".pth", ".safetensors")
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)


def random_tensor(shape, dtype, seed):
    bits = torch.randint(0, 256, (*shape, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return bits[..., 0] > 127 if dtype is torch.bool else bits[..., : dtype.itemsize].contiguous().view(dtype)[..., 0]


def as_bytes(tensor):
    return tensor.reshape(-1).clone(memory_format=torch.contiguous_format).view(torch.uint8).tolist()


class Payload:
    """Unpickled, it makes a file: what weights from a stranger must not be able to do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))


@given(
    ending=st.sampled_from(ENDINGS),
    entries=st.lists(
        st.tuples(st.lists(st.integers(1, 4), max_size=4), st.sampled_from(TYPES)), min_size=1, max_size=4
    ),
    seed=st.integers(0, 2**32),
)
def test_weights_come_back_bit_by_bit(tmp_path_factory, ending, entries, seed):
    weights = {f"layer.{i}": random_tensor(shape, dtype, seed + i) for i, (shape, dtype) in enumerate(entries)}
    path = tmp_path_factory.mktemp("weights") / f"weights{ending}"
    save_weights(path, weights)
    loaded = load_weights(path)
    assert set(loaded) == set(weights)
    for key, value in weights.items():
        assert loaded[key].dtype == value.dtype
        assert loaded[key].shape == value.shape
        assert as_bytes(loaded[key]) == as_bytes(value)  # because NaN is unequal to itself


@pytest.mark.parametrize("ending", ENDINGS)
def test_views_and_trained_parameters_are_saved(tmp_path, ending):
    whole = nn.Parameter(torch.randn(6, 8, generator=torch.Generator().manual_seed(1)))
    weights = {"slice": whole[:3, :5], "turned": whole.T}
    save_weights(tmp_path / f"w{ending}", weights)
    loaded = load_weights(tmp_path / f"w{ending}")
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    assert not any(value.requires_grad for value in loaded.values())


def test_metadata_is_in_the_file(tmp_path):
    from safetensors import safe_open

    save_weights(tmp_path / "w.safetensors", {"a": torch.ones(2)}, {"architecture": "{}"})
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.metadata() == {"architecture": "{}"}


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [b"the old content", None])
def test_a_failing_writer_changes_nothing(tmp_path, failure, old):
    path = tmp_path / "file.bin"
    if old is not None:
        path.write_bytes(old)

    def write(temporary):
        temporary.write_bytes(b"half of the n")
        assert temporary.parent == path.parent
        raise failure("disk full")

    with pytest.raises(failure, match="disk full"):
        write_atomically(path, write)
    assert [file.name for file in tmp_path.iterdir()] == ([] if old is None else ["file.bin"])
    assert old is None or path.read_bytes() == old


def test_a_writer_that_succeeds_replaces_and_makes_folders(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    for text in ("first", "zweite Fassung ü"):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
        assert [file.name for file in path.parent.iterdir()] == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write(temporary):
        assert path.read_text() == "old"
        temporary.write_text("new")
        assert path.read_text() == "old"

    write_atomically(path, write)
    assert path.read_text() == "new"


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"a": torch.ones(1), "b": p}, lambda p: {"state_dict": p}])
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_code_in_a_file_does_not_run(tmp_path, wrap, how):
    made = tmp_path / "made.txt"
    content, path = wrap(Payload(made)), tmp_path / "evil.pth"
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=r"evil\.pth: cannot be read as weights") as error:
        load_weights(path)
    assert "\n" not in str(error.value)
    assert not made.exists()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kept", [0, 1, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path, ending, kept):
    path = tmp_path / f"weights{ending}"
    save_weights(path, network().state_dict())
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(InputError, match="cannot be read as weights") as error:
        load_weights(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders_are_named(tmp_path):
    for path, told in ((tmp_path / "none.pth", "no such file"), (tmp_path, "it is a folder")):
        with pytest.raises(InputError, match=told):
            load_weights(path)


@pytest.mark.parametrize("content", [torch.ones(2), [torch.ones(2)], {"a": 1}, {"state_dict": {"a": "x"}}], ids=repr)
def test_other_content_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: expected a state dict"):
        load_weights(tmp_path / "w.pth")


def test_the_state_dict_of_a_checkpoint_is_found(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "w.ckpt")
    assert list(load_weights(tmp_path / "w.ckpt")) == ["a"]


def test_fitting_weights_are_loaded(tmp_path):
    torch.manual_seed(3)
    filled, weights = network(), network().state_dict()
    load_into(filled, weights, tmp_path / "w.pth")
    assert all(torch.equal(value, weights[key]) for key, value in filled.state_dict().items())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("2.bias"), ["2.bias", "missing", "(2,)"]),
        (lambda w: w.update(extra=torch.ones(1)), ["extra", "not in"]),
        (lambda w: w.update({"0.weight": torch.ones(4, 3, 5, 5)}), ["0.weight", "(4, 3, 5, 5)", "(4, 3, 3, 3)"]),
        (lambda w: w.clear(), ["0.weight", "missing"]),
    ],
)
def test_other_weights_are_refused_and_nothing_is_loaded(tmp_path, change, told):
    target, weights = network(), network().state_dict()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    change(weights)
    with pytest.raises(InputError) as error:
        load_into(target, weights, tmp_path / "w.pth")
    assert [part for part in (str(tmp_path / "w.pth"), *told) if part not in str(error.value)] == []
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())
