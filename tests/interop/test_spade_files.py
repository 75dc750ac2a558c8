import re
from collections import OrderedDict

import pytest
import torch
from tiny import write_space
from torch import nn

from ganc_nni.core.errors import InputError
from ganc_nni.generators import spade
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.interop import read_generator, save_generator
from ganc_nni.supernet.calibration import batch_norms
from ganc_nni.tools.profile import profile_file, profile_space

SIZE = (64, 128)
LABELS_MAP = torch.rand((1, 5, *SIZE), generator=torch.Generator().manual_seed(5))
SUB = (4, 8, 4, 8, 8, 4, 4, 8)


def generator(widths=(4,) * 8, seed=0, **options):
    """Random weights, biases and statistics."""
    torch.manual_seed(seed)
    network = SpadeGenerator(widths, 5, **options)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    for norm in batch_norms(network):
        norm.running_mean.normal_(0, 1)
        norm.running_var.uniform_(0.5, 2)
    if options.get("spectral"):
        network(torch.cat([LABELS_MAP, LABELS_MAP]))  # the norm's vectors come from training
    return network.eval()


def image_of(network):
    with torch.inference_mode():
        return network(LABELS_MAP)


def below(prefix):
    return lambda state: {prefix + key: value for key, value in state.items()}


def with_wide_statistics(state):
    """As gan-compression exports sub-generators: statistics of the supernet's width."""
    return {
        key: torch.cat([value, torch.ones(9)]) if key.endswith(("running_mean", "running_var")) else value
        for key, value in state.items()
    }


def without_counters(state):
    return OrderedDict((key, value) for key, value in state.items() if not key.endswith("num_batches_tracked"))


VARIANTS = {
    "as it is": dict,
    "DataParallel": below("module."),
    "wide statistics": with_wide_statistics,
    "no counters": without_counters,
    "all of it": lambda state: below("module.")(without_counters(with_wide_statistics(state))),
    "Lightning": lambda state: {"state_dict": {**below("generator.")(state), "discriminator.a": torch.ones(1)}},
}
KINDS = {
    "teacher": {"widths": (8,) * 8},
    "spectral teacher": {"widths": (8,) * 8, "spectral": True},
    "mobile": {"widths": (8,) * 8, "separable": True},
    "sub-mobile": {"widths": SUB, "separable": True},
    "spectral mobile": {"widths": (4,) * 8, "separable": True, "spectral": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_the_same_image(tmp_path, variant, kind):
    options = KINDS[kind]
    network = generator(**options)
    torch.save(VARIANTS[variant](network.state_dict()), tmp_path / "g.pth")
    file = read_generator(tmp_path / "g.pth")
    assert tuple(file.widths.values()) == options["widths"]
    assert (file.config.family, file.config.separable) == ("spade", options.get("separable", False))
    assert (file.config.in_channels, file.config.upsampling) == (5, "more")
    assert not any("_orig" in key for key in file.weights)
    assert torch.equal(image_of(file.network()), image_of(network))


@pytest.mark.parametrize("upsampling", ["normal", "more", "most"])
def test_upsampling_is_told_or_found(tmp_path, upsampling):
    network = generator(upsampling=upsampling)
    torch.save(network.state_dict(), tmp_path / "g.pth")
    file = read_generator(tmp_path / "g.pth", upsampling=upsampling)
    save_generator(file, tmp_path / "g.safetensors", "ganc", (128, 128))
    again = read_generator(tmp_path / "g.safetensors")
    assert again.config.upsampling == upsampling
    if upsampling != "most":
        assert torch.equal(image_of(again.network()), image_of(network))
        with pytest.raises(InputError, match=r"upsampling most was asked for; its tensors are those of more"):
            read_generator(tmp_path / "g.pth", upsampling="most")


def test_an_old_file_brings_the_folded_weights_along(tmp_path):
    network = generator(spectral=True)
    state = {key: value for key, value in network.state_dict().items() if not key.endswith("_v")}
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=r"bad\.pth: key .*\.weight_v is missing"):
        read_generator(tmp_path / "bad.pth")
    with torch.no_grad():
        network(LABELS_MAP)
    folded = {name: layer.weight for name, layer in network.named_modules() if hasattr(layer, "weight_orig")}
    torch.save({**state, **{f"{name}.weight": value.detach() for name, value in folded.items()}}, tmp_path / "g.pth")
    assert torch.equal(image_of(read_generator(tmp_path / "g.pth").network()), image_of(network))


def test_vectors_that_do_not_fit_are_refused(tmp_path):
    state = generator(spectral=True).state_dict()
    torch.save({**state, "up_0.conv_0.weight_u": torch.ones(5)}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=r"up_0\.conv_0\.weight_orig has shape .* its _u \(5,\)"):
        read_generator(tmp_path / "bad.pth")


def test_a_sub_generator_has_the_first_channels(tmp_path):
    network = generator((8,) * 8, separable=True)
    torch.save(network.state_dict(), tmp_path / "g.pth")
    file = read_generator(tmp_path / "g.pth", "_".join(map(str, SUB)))
    assert tuple(file.widths.values()) == SUB
    whole = network.state_dict()
    for key, value in file.weights.items():
        assert torch.equal(value, whole[key][tuple(slice(side) for side in value.shape)])
    assert image_of(file.network()).shape == (1, 3, *SIZE)


@pytest.mark.parametrize(
    ("kind", "usage"),
    [
        ("teacher", "--netG spade --ngf 8 --num_upsampling_layers more"),
        ("spectral teacher", "--netG spade --ngf 8 "),
        ("mobile", "--netG mobile_spade --ngf 8 "),
        ("sub-mobile", "--netG sub_mobile_spade --config_str 4_8_4_8_8_4_4_8 "),
    ],
)
def test_there_and_back_is_bit_equal(tmp_path, kind, usage):
    torch.save(generator(**KINDS[kind]).state_dict(), tmp_path / "a.pth")
    first = read_generator(tmp_path / "a.pth")
    save_generator(first, tmp_path / "b.safetensors", "ganc", SIZE)
    told = save_generator(read_generator(tmp_path / "b.safetensors"), tmp_path / "c.pth", "gan-compression", SIZE)
    assert usage in told
    back = torch.load(tmp_path / "c.pth", weights_only=True)
    assert list(back) == list(first.network().state_dict())
    assert all(torch.equal(back[key], value) for key, value in first.weights.items())


def removed(key):
    return lambda state: {name: value for name, value in state.items() if name != key}


def changed(key, shape):
    return lambda state: {**state, key: torch.zeros(shape)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (removed("up_0.conv_s.weight"), ["key up_0.conv_s.weight is missing", "(32, 64, 1, 1)"]),
        (removed("head_0.conv_0.weight"), ["key head_0.conv_0.weight is missing"]),
        (removed("up_1.norm_0.param_free_norm.running_var"), ["key up_1.norm_0.param_free_norm.running_var is"]),
        (changed("up_0.conv_0.weight", (33, 64, 3, 3)), ["(33, 64, 3, 3)", "axis 0", "multiple of 8"]),
        (changed("G_middle_0.conv_0.weight", (64, 48, 3, 3)), ["(64, 48, 3, 3)", "expected (64, 64, 3, 3)"]),
        (changed("up_9.weight", (2,)), ["key up_9.weight of shape (2,) is not in a SPADE generator"]),
        (changed("head_0.norm_0.param_free_norm.running_mean", (3,)), ["has shape (3,)", "expected (64,)"]),
        (lambda s: {"discriminator_0.model0.0.weight": torch.ones(4, 3, 4, 4)}, ["like a multi-scale discriminator"]),
        (lambda s: {"fc.weight": torch.ones(10, 512)}, ["first key is fc.weight", "SPADE generator's fc.weight"]),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(tmp_path, change, told):
    torch.save(change(generator().state_dict()), tmp_path / "bad.pth")
    with pytest.raises(InputError) as error:
        read_generator(tmp_path / "bad.pth")
    assert [part for part in ("bad.pth: ", *told) if part not in str(error.value)] == []
    assert "\n" not in str(error.value)


def test_missing_keys_are_named_as_in_the_file(tmp_path):
    state = below("module.")(generator(spectral=True).state_dict())
    torch.save(removed("module.up_0.conv_1.weight_orig")(state), tmp_path / "bad.pth")
    with pytest.raises(InputError, match=re.escape("module.up_0.conv_1.weight")):
        read_generator(tmp_path / "bad.pth")


def test_published_figures_from_a_file_and_from_a_space(tmp_path):
    space = write_space(tmp_path / "space.json", (24, 32, 40, 48, 64), spade.LABELS)
    config = "40_32_32_40_32_40_24_24"
    (profile,) = profile_space(space, config, (256, 256), upsampling="normal").values()
    assert (f"{profile.macs_published / 1e9:.1f}", profile.params) == ("35.5", 25_985_755)
    (profile,) = profile_space(space, "32_32_32_48_32_24_24_32", (256, 512)).values()
    assert (f"{profile.macs_published / 1e9:.1f}", profile.params) == ("31.3", 20_174_275)
    torch.save(generator(SUB, separable=True).state_dict(), tmp_path / "g.pth")
    found = profile_file(tmp_path / "g.pth", None, SIZE)
    assert (found.family, found.upsampling) == ("spade", "more")
    assert found.params == sum(p.numel() for p in SpadeGenerator(SUB, 5, separable=True).parameters())


@pytest.mark.parametrize(("size", "separable"), [((96, 64), False), ((64, 64), True), ((32, 64), False)])
def test_sizes_that_no_spade_generator_takes_are_refused(tmp_path, size, separable):
    torch.save(generator(separable=separable).state_dict(), tmp_path / "g.pth")
    with pytest.raises(InputError, match=r"--size: .* multiples of 64, 64 or more"):
        profile_file(tmp_path / "g.pth", None, size)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("up_0.conv_0.weight_orig", torch.tensor(1.0), r"up_0\.conv_0\.weight_orig has shape \(\).*4-d"),
        ("up_0.conv_0.weight_orig", torch.ones(2, 3), r"up_0\.conv_0\.weight_orig has shape \(2, 3\).*4-d"),
        ("up_0.conv_0.weight_u", torch.ones(32).half(), r"_u and _v torch\.float16 .*all of one type"),
        ("head_0.norm_0.param_free_norm.running_mean", torch.tensor(1.0), r"running_mean has shape \(\); expected"),
    ],
)
def test_tensors_without_the_shape_of_their_kind_are_refused(tmp_path, key, value, told):
    torch.save({**generator(spectral=True).state_dict(), key: value}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=told):
        read_generator(tmp_path / "bad.pth")
