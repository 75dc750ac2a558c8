import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from public_unet import layer, public_output, public_state

from ganc_nni.core.errors import InputError
from ganc_nni.generators.unet import UnetConfig, UnetGenerator
from ganc_nni.interop import read_generator, save_generator

PUBLIC = "pytorch-CycleGAN-and-pix2pix"


def image(side=32, channels=3):
    return torch.rand((2, channels, side, side), generator=torch.Generator().manual_seed(5)) * 2 - 1


def image_of(network, x):
    with torch.inference_mode():
        return network(x)


def below(prefix):
    return lambda state: {prefix + key: value for key, value in state.items()}


def without_counters(state):
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def with_unused_statistics(state):
    """As torch before 0.4 saved instance norms."""
    found = dict(state)
    for level, index in ((1, 2), (1, 6), (4, 4)):
        for part in ("running_mean", "running_var", "num_batches_tracked"):
            found[f"{layer(level, index)}.{part}"] = torch.tensor([3.0])
    return found


VARIANTS = {
    "as it is": dict,
    "DataParallel": below("module."),
    "in a dictionary": lambda state: {"state_dict": state},
    "CycleGAN's Lightning module": lambda state: {
        **below("generator.")(state),
        **below("reverse_generator.")({key: value + 1 for key, value in state.items()}),
    },
}


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_public_files_give_the_public_image(tmp_path, norm, variant):
    state = public_state(4, 5, norm, in_channels=1, seed=1)
    torch.save(VARIANTS[variant](state), tmp_path / "g.pth")
    file = read_generator(tmp_path / "g.pth")
    assert file.config == UnetConfig(in_channels=1, n_downs=5, norm=norm)
    assert set(file.widths.values()) == {4}
    x = image(channels=1)
    expected = public_output(state, x)
    assert torch.allclose(image_of(file.network(), x), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.01


@pytest.mark.parametrize("n_downs", [5, 6, 7, 8])
def test_every_depth_gives_the_public_image(tmp_path, n_downs):
    state = public_state(4, n_downs, seed=2)
    torch.save(state, tmp_path / "g.pth")
    x = image(2**n_downs)
    assert torch.allclose(
        image_of(read_generator(tmp_path / "g.pth").network(), x), public_output(state, x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("change", "norm"), [(without_counters, "batch"), (with_unused_statistics, "instance")])
def test_files_of_old_torch_are_read(tmp_path, change, norm):
    state = public_state(norm=norm, seed=3)
    torch.save(change(state), tmp_path / "old.pth")
    x = image()
    assert torch.allclose(
        image_of(read_generator(tmp_path / "old.pth").network(), x), public_output(state, x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("n_downs", "norm", "usage"),
    [
        (7, "instance", "--netG unet_128 --ngf 4 --norm instance --no_dropout"),
        (8, "batch", "--netG unet_256 --ngf 4 --norm batch --no_dropout --eval"),
    ],
)
def test_there_and_back_is_bit_equal(tmp_path, n_downs, norm, usage):
    state = public_state(4, n_downs, norm, seed=4)
    torch.save(state, tmp_path / "a.pth")
    save_generator(read_generator(tmp_path / "a.pth"), tmp_path / "b.safetensors", "ganc", (256, 256))
    told = save_generator(read_generator(tmp_path / "b.safetensors"), tmp_path / "c.pth", PUBLIC, (256, 256))
    assert told == usage
    back = torch.load(tmp_path / "c.pth", weights_only=True)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], value) for key, value in state.items())


@settings(max_examples=10, deadline=None)
@given(
    widths=st.lists(st.integers(1, 5), min_size=9, max_size=9),
    n_downs=st.integers(5, 8),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    norm=st.sampled_from(("instance", "batch")),
)
def test_whatever_was_built_is_measured(tmp_path_factory, widths, n_downs, channels, norm):
    config = UnetConfig(in_channels=channels[0], out_channels=channels[1], n_downs=n_downs, norm=norm)
    path = tmp_path_factory.mktemp("unet") / "g.pth"
    network = config.build(widths)
    torch.save(network.state_dict(), path)
    file = read_generator(path)
    assert (file.config, list(file.widths.values())) == (config, widths)
    assert file.cost((256, 256)).params == sum(value.numel() for value in network.parameters())


def test_a_sub_generator_of_a_public_file(tmp_path):
    torch.save(public_state(8), tmp_path / "g.pth")
    file = read_generator(tmp_path / "g.pth", "4_8_4_8_4_8_4_8_4")
    whole = read_generator(tmp_path / "g.pth").weights
    plain = UnetGenerator([4, 8, 4, 8, 4, 8, 4, 8, 4], n_downs=5)
    plain.load_state_dict({key: whole[key][tuple(map(slice, v.shape))] for key, v in plain.state_dict().items()})
    assert torch.equal(image_of(file.network(), image()), image_of(plain.eval(), image()))


def removed(key):
    return lambda state: {name: value for name, value in state.items() if name != key}


def changed(key, *shape):
    return lambda state: {**state, key: torch.zeros(shape)}


OUTER, INNER = f"{layer(0, 3)}.weight", f"{layer(4, 3)}.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (removed(OUTER), [f"key {OUTER} is missing"]),
        (removed(f"{layer(2, 5)}.weight"), [f"key {layer(2, 5)}.weight is missing"]),
        (removed(f"{layer(1, 1)}.weight"), [f"key {layer(1, 1)}.weight is missing"]),
        (removed(f"{layer(3, 1)}.bias"), [f"key {layer(3, 1)}.bias is missing", "(32,)"]),
        (changed(OUTER, 7, 3, 4, 4), [f"{OUTER} has shape (7, 3, 4, 4)", "expected 8 input channels: 4 of the skip"]),
        (changed(INNER, 32, 32, 3, 3), [f"{INNER} has shape (32, 32, 3, 3)", "expected (32, 32, 4, 4)"]),
        (changed(f"{layer(4, 1)}.weight", 33, 32, 4, 4), ["axis 0 to be a multiple of 8"]),
        (changed(OUTER, 8), [f"{OUTER} has shape (8,)", "4-d"]),
        (changed("model.extra", 2), ["key model.extra of shape (2,) is not in a U-Net generator, 5 levels, instance"]),
        (lambda s: {key: s[key] for key in s if "3.model.3.model" not in key},
         ["a U-Net generator with 3 levels", "expected 5 to 8"]),
        (lambda s: {"encode_0.1.weight": torch.ones(4, 3, 4, 4)}, ["a U-Net generator with 1 levels"]),
        (lambda s: {"model.model.0.weight": torch.ones(4, 3, 5, 5)}, ["first key is model.model.0.weight"]),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(tmp_path, change, told):
    path = tmp_path / "bad.pth"
    torch.save(change(public_state()), path)
    with pytest.raises(InputError) as error:
        read_generator(path)
    message = str(error.value)
    assert [part for part in (f"{path}: ", *told) if part not in message] == []
    assert "\n" not in message


@pytest.mark.parametrize(
    ("widths", "n_downs", "to", "told"),
    [
        ([4] * 9, 8, "gan-compression", f"gan-compression has no U-Net generator; use --to {PUBLIC}"),
        ([4] * 8 + [8], 8, PUBLIC, "U-Net generator, 8 levels, instance norm, of widths 4_4_4_4_4_4_4_4_8;"),
        ([4] * 9, 6, PUBLIC, "U-Net generator, 6 levels"),
    ],
)  # fmt: skip
def test_what_the_other_project_cannot_hold_is_refused(tmp_path, widths, n_downs, to, told):
    torch.save(UnetGenerator(widths, n_downs=n_downs).state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match=re.escape(told)):
        save_generator(read_generator(tmp_path / "a.pth"), tmp_path / "b.pth", to, (256, 256))
    assert not (tmp_path / "b.pth").exists()
