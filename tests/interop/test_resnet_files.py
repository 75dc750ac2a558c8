import json
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import real_data, recipe, search_space, supernet_of
from torch import nn

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.io import load_weights
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.resnet import LABELS, ResnetConfig, ResnetGenerator
from ganc_nni.interop import read_generator, save_generator
from ganc_nni.losses.discriminators import PatchDiscriminator
from ganc_nni.run import Run
from ganc_nni.supernet.sampling import activate

SIZE = (32, 32)
JUNYANZ = "pytorch-CycleGAN-and-pix2pix"
PICTURE = torch.rand((1, 3, *SIZE), generator=torch.Generator().manual_seed(5)) * 2 - 1


def generator(widths=(4,) * 8, seed=0, **options):
    """Random weights and biases."""
    torch.manual_seed(seed)
    network = ResnetGenerator(widths, **options)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    return network.eval()


def image_of(network, image=PICTURE):
    with torch.inference_mode():
        return network(image)


def without_dropout(state):
    """junyanz's generators without dropout: one layer less in a block."""
    return {re.sub(r"conv_block\.([67])\.", _before, key): value for key, value in state.items()}


def _before(match):
    return f"conv_block.{int(match[1]) - 1}."


def with_running_statistics(state):
    """As torch before 0.4 saved instance norms: the norm stands one after its convolution."""
    old = OrderedDict()
    for key, value in state.items():
        old[key] = value
        if key.endswith(".bias") and ".conv.0" not in key and state[f"{key.removesuffix('bias')}weight"].ndim == 4:
            stem, index = re.fullmatch(r"(.*?)(\d+)(?:\.conv\.2)?\.bias", key).groups()
            old[f"{stem}{int(index) + 1}.running_mean"] = torch.full_like(value, 7)
            old[f"{stem}{int(index) + 1}.running_var"] = torch.full_like(value, 9)
            old[f"{stem}{int(index) + 1}.num_batches_tracked"] = torch.tensor(3)
    return old


def below(prefix):
    return lambda state: {prefix + key: value for key, value in state.items()}


def lightning(prefix, *others):
    """A Lightning checkpoint: the generator below a prefix, next to other networks."""

    def wrap(state):
        networks = {
            **below(prefix)(state),
            **{f"{other}{key}": value + 1 for other in others for key, value in state.items()},
        }
        judge = below("discriminator.")(PatchDiscriminator(3, 4).state_dict())
        return {"state_dict": {**judge, **networks}, "epoch": 3, "pytorch-lightning_version": "2.6.6", "loops": {}}

    return wrap


VARIANTS = {
    "as it is": dict,
    "ordered": OrderedDict,
    "DataParallel": below("module."),
    "compiled DataParallel": below("_orig_mod.module."),
    "no dropout": without_dropout,
    "running statistics": with_running_statistics,
    "no dropout, running statistics": lambda state: with_running_statistics(without_dropout(state)),
    "no dropout, running statistics, DataParallel": lambda state: below("module.")(
        with_running_statistics(without_dropout(state))
    ),
    "in a dictionary": lambda state: {"state_dict": state},
    "CycleGAN's Lightning module": lightning("generator.", "reverse_generator."),
    "the supernet's": lightning("training_module._model."),
    "no dropout, Lightning": lambda state: lightning("_model.")(without_dropout(state)),
    "blocks called block": lambda state: {
        key.replace("conv_block", "block"): value for key, value in without_dropout(state).items()
    },
}
KINDS = {
    "teacher": {"widths": (8,) * 8},
    "mobile": {"widths": (8,) * 8, "separable": True},
    "sub-mobile": {"widths": (4, 8, 8, 4, 8, 12, 8, 4), "separable": True},
    "grey to RGB": {"widths": (4,) * 8, "in_channels": 1},
    "affine": {"widths": (4,) * 8, "affine": True},
    "affine, separable": {"widths": (4,) * 8, "affine": True, "separable": True},
}


@pytest.mark.parametrize("n_blocks", [6, 9])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_the_same_image_to_the_bit(tmp_path, variant, kind, n_blocks):
    options = {**KINDS[kind], "n_blocks": n_blocks}
    network = generator(**options)
    image = PICTURE[:, : options.get("in_channels", 3)]
    torch.save(VARIANTS[variant](network.state_dict()), tmp_path / "generator.pth")
    if "running" in variant and options.get("affine"):
        with pytest.raises(InputError, match=r"model\.\S*weight of shape .* belongs to a batch norm"):
            read_generator(tmp_path / "generator.pth")
        return

    file = read_generator(tmp_path / "generator.pth")

    assert tuple(file.widths.values()) == options["widths"]
    assert file.config.n_blocks == n_blocks
    assert file.config.separable == options.get("separable", False)
    assert file.config.in_channels == options.get("in_channels", 3)
    assert file.config.affine == options.get("affine", False)
    assert torch.equal(image_of(file.network(), image), image_of(network, image))


@pytest.mark.parametrize(
    "variant", [name for name in VARIANTS if name not in ("in a dictionary", "no dropout, Lightning")]
)
def test_formats_are_told_apart_by_content(tmp_path, variant):
    network = generator(n_blocks=3)
    state = VARIANTS[variant](network.state_dict())
    paths = [tmp_path / "zip.pth", tmp_path / "old.pth", tmp_path / "zip.ckpt"]
    torch.save(state, paths[0])
    torch.save(state, paths[1], _use_new_zipfile_serialization=False)
    torch.save(state, paths[2])
    if "state_dict" not in state:
        save_file(dict(state), tmp_path / "safe.safetensors")
        (tmp_path / "safe.pth").write_bytes((tmp_path / "safe.safetensors").read_bytes())
        paths += [tmp_path / "safe.safetensors", tmp_path / "safe.pth"]
    for path in paths:
        assert torch.equal(image_of(read_generator(path).network()), image_of(network))


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 9), min_size=8, max_size=8),
    n_blocks=st.integers(3, 10),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    separable=st.booleans(),
    affine=st.booleans(),
)
def test_whatever_was_built_is_measured(tmp_path_factory, widths, n_blocks, channels, separable, affine):
    config = ResnetConfig(
        in_channels=channels[0], out_channels=channels[1], n_blocks=n_blocks, separable=separable, affine=affine
    )
    path = tmp_path_factory.mktemp("file") / "g.pth"
    network = config.build(widths)
    torch.save(network.state_dict(), path)
    file = read_generator(path)
    assert (file.config, list(file.widths.values())) == (config, widths)
    assert file.weights_bytes == 4 * sum(value.numel() for value in network.parameters())
    assert file.cost(SIZE).params == file.weights_bytes / 4


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_shallow_generators_load(tmp_path, n_blocks):
    network = generator((4, 4, 4, 8, 8, 8, 4, 4), n_blocks=n_blocks)
    torch.save(network.state_dict(), tmp_path / "g.pth")
    assert torch.equal(image_of(read_generator(tmp_path / "g.pth").network()), image_of(network))


@pytest.mark.parametrize("separable", [False, True])
def test_half_precision_loads_and_keeps_its_bits(tmp_path, separable):
    network = generator(n_blocks=3, separable=separable).half()
    torch.save(network.state_dict(), tmp_path / "g.pth")
    file = read_generator(tmp_path / "g.pth")
    assert torch.equal(image_of(file.network()), image_of(network.float()))
    save_generator(file, tmp_path / "h.pth", "ganc", SIZE)
    assert {value.dtype for value in load_weights(tmp_path / "h.pth").values()} == {torch.float16}
    assert file.weights_bytes == 2 * sum(value.numel() for value in network.parameters())


@settings(max_examples=10, deadline=None)
@given(widths=st.lists(st.sampled_from((4, 8)), min_size=8, max_size=8), seed=st.integers(0, 99))
def test_a_sub_generator_is_what_the_supernet_computes(tmp_path_factory, widths, seed):
    path = tmp_path_factory.mktemp("file") / "supernet.pth"
    supernet = supernet_of(search_space(), seed).eval()
    torch.save(supernet.state_dict(), path)
    sample = dict(zip(LABELS, widths, strict=True))
    activate(supernet, sample)
    file = read_generator(path, "_".join(map(str, widths)))
    assert file.widths == sample
    assert torch.equal(image_of(file.network()), image_of(supernet))


def test_six_widths_name_a_sub_generator_too(tmp_path):
    torch.save(generator((8,) * 8, separable=True).state_dict(), tmp_path / "g.pth")
    six, eight = (read_generator(tmp_path / "g.pth", text) for text in ("4_8_8_4_8_4", "4_8_8_4_4_4_8_4"))
    assert six.widths == eight.widths
    assert torch.equal(image_of(six.network()), image_of(eight.network()))


def test_its_own_config_string_changes_nothing(tmp_path):
    torch.save(generator((4, 8, 8, 4, 8, 12, 8, 4), separable=True).state_dict(), tmp_path / "g.pth")
    file = read_generator(tmp_path / "g.pth")
    assert read_generator(tmp_path / "g.pth", "4_8_8_4_8_12_8_4").widths == file.widths
    with pytest.raises(
        InputError, match=r"g\.pth: holds no sub-gen.*too wide are down_0=8 \(has 4\), up_1=16 \(has 4\); take narrower"
    ):
        read_generator(tmp_path / "g.pth", "8_8_8_4_8_12_8_16")


def test_every_file_of_a_run_is_a_generator(finished):
    folder = finished / "runs" / "tiny"
    run = Run(recipe(finished / "space.json"))
    expected = {
        "teacher/teacher.safetensors": run.teacher_config,
        "teacher/best.ckpt": run.teacher_config,
        "teacher/last.ckpt": run.teacher_config,
        "supernet/supernet.safetensors": run.student_config,
        "supernet/best.ckpt": run.student_config,
        "supernet/last.ckpt": run.student_config,
        "finetune/last.ckpt": run.student_config,
        "finetune/compressed.safetensors": run.student_config,
        "export/compressed.pth": run.student_config,
        "export/compressed.safetensors": run.student_config,
    }
    files = {name: read_generator(folder / name) for name in expected}
    assert {name: file.config for name, file in files.items()} == expected
    assert files["supernet/supernet.safetensors"].widths == run.space.largest()
    chosen = Architecture.load(folder / "export" / "architecture.json")
    assert files["export/compressed.safetensors"].origin == chosen
    assert files["export/compressed.pth"].widths == files["finetune/last.ckpt"].widths == chosen.widths
    images = [image_of(files[f"export/compressed.{ending}"].network()) for ending in ("pth", "safetensors")]
    assert torch.equal(*images)


def test_the_architecture_survives_conversion(finished, tmp_path):
    source = finished / "runs" / "tiny" / "export" / "compressed.safetensors"
    save_generator(read_generator(source), tmp_path / "b.safetensors", "ganc", (64, 64))
    assert metadata(tmp_path / "b.safetensors") == metadata(source)


def metadata(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["architecture"])


def test_a_converted_file_carries_its_architecture(tmp_path):
    torch.save(below("module.")(generator((8,) * 8, n_blocks=6).state_dict()), tmp_path / "g.pth")
    file = read_generator(tmp_path / "g.pth")
    save_generator(file, tmp_path / "g.safetensors", "ganc", SIZE)
    architecture = Architecture.model_validate(metadata(tmp_path / "g.safetensors"))
    assert architecture.config == file.config
    assert architecture.config_str == "8_8_8_8_8_8_8_8"
    assert architecture.macs_published == file.cost(SIZE).macs_published
    assert architecture.image_size == SIZE
    again = read_generator(tmp_path / "g.safetensors")
    assert again.origin == architecture
    assert torch.equal(image_of(again.network()), image_of(file.network()))


@pytest.mark.parametrize(
    ("kind", "usage"),
    [
        ("teacher", "--netG resnet_9blocks --ngf 8 "),
        ("mobile", "--netG mobile_resnet_9blocks --ngf 8 "),
        ("sub-mobile", "--netG sub_mobile_resnet_9blocks --config_str 4_8_8_4_8_12_8_4 "),
    ],
)
@pytest.mark.parametrize("variant", ["as it is", "no dropout, running statistics, DataParallel"])
def test_there_and_back_is_bit_equal(tmp_path, kind, usage, variant):
    state = generator(**KINDS[kind]).state_dict()
    torch.save(VARIANTS[variant](state), tmp_path / "a.pth")
    save_generator(read_generator(tmp_path / "a.pth"), tmp_path / "b.safetensors", "ganc", SIZE)
    told = save_generator(read_generator(tmp_path / "b.safetensors"), tmp_path / "c.pth", "gan-compression", SIZE)
    assert usage in told
    # the reference implementation builds its layers in this order and loads strictly
    back = torch.load(tmp_path / "c.pth", weights_only=True)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], value) for key, value in state.items())


@pytest.mark.parametrize("n_blocks", [6, 9])
def test_a_full_generator_goes_back_to_where_it_was_trained(tmp_path, n_blocks):
    state = without_dropout(generator((8,) * 8, n_blocks=n_blocks).state_dict())
    torch.save(state, tmp_path / "a.pth")
    told = save_generator(read_generator(tmp_path / "a.pth"), tmp_path / "b.pth", JUNYANZ, SIZE)
    assert told == f"--netG resnet_{n_blocks}blocks --ngf 8 --norm instance --no_dropout"
    back = torch.load(tmp_path / "b.pth", weights_only=True)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    "options", [{"n_blocks": 7}, {"separable": True}, {"widths": (4,) * 7 + (8,)}, {"affine": True}]
)
def test_what_the_first_project_cannot_hold_is_refused(tmp_path, options):
    torch.save(generator(**options).state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match=f"is a ResNet generator, .*; {JUNYANZ} knows .*use --to ganc"):
        save_generator(read_generator(tmp_path / "a.pth"), tmp_path / "b.pth", JUNYANZ, SIZE)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"affine": True}, "has instance norms with scale and shift"),
        ({"n_blocks": 6}, "has 6 residual blocks; gan-compression knows 9 only"),
        ({"widths": (4, 8, 8, 4, 8, 12, 8, 4)}, "full convolutions and the widths 4_8_8_4_8_12_8_4"),
    ],
)
def test_what_the_other_project_cannot_hold_is_refused(tmp_path, options, told):
    torch.save(generator(**options).state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match=re.escape(told)):
        save_generator(read_generator(tmp_path / "a.pth"), tmp_path / "b.pth", "gan-compression", SIZE)
    assert not (tmp_path / "b.pth").exists()


@pytest.mark.parametrize(("to", "name"), [("gan-compression", "b.safetensors"), ("ganc", "b.ckpt"), ("ganc", "b")])
def test_other_endings_are_refused(tmp_path, to, name):
    torch.save(generator().state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match=rf"{name}: the format {to} is written as .*\.pth"):
        save_generator(read_generator(tmp_path / "a.pth"), tmp_path / name, to, SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def removed(*keys):
    return lambda state: {key: value for key, value in state.items() if not key.startswith(keys)}


def changed(key, shape, dtype=torch.float32):
    return lambda state: {**state, key: torch.zeros(shape, dtype=dtype)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (removed("model.14.conv_block.6.bias"), ["key model.14.conv_block.6.bias is missing", "(16,)"]),
        (removed("model.7.weight"), ["key model.7.weight is missing"]),
        (removed("model.14."), ["key model.14.conv_block.1.weight is missing", "model.10, model.11", "without a gap"]),
        (removed("model.1.weight"), ["first key is model.1.bias", "model.1.weight of shape (width, channels, 7, 7)"]),
        (removed(*(f"model.{i}." for i in range(10, 19))), ["no residual block"]),
        (lambda s: below("module.")(without_dropout(removed("model.12.conv_block.6.bias")(s))),
         ["key module.model.12.conv_block.5.bias is missing", "(16,)"]),
        (changed("model.99.weight", (2, 3)), ["key model.99.weight of shape (2, 3) is not in a ResNet"]),
        (changed("epoch", ()), ["key epoch of shape () is not in a ResNet"]),
        (lambda s: {**below("module.")(s), "extra": torch.ones(1)}, ["key extra is too many", "'module.'"]),
        (changed("model.11.conv_block.1.weight", (32, 16, 3, 3)),
         ["model.11.conv_block.1.weight has shape (32, 16, 3, 3)", "expected (16, 16, 3, 3)", "4_4_4_4_4_4_4_4"]),
        (changed("model.4.weight", (8, 12, 3, 3)), ["model.4.weight has shape (8, 12, 3, 3)", "expected (8, 4, 3, 3)"]),
        (changed("model.1.bias", (5,)), ["model.1.bias has shape (5,)", "expected (4,)"]),
        (changed("model.4.weight", (9, 4, 3, 3)), ["model.4.weight has shape (9, 4, 3, 3)", "axis 0", "multiple of 2"]),
        (changed("model.7.weight", (16,)), ["model.7.weight has shape (16,)", "a convolution's weight"]),
        (changed("model.7.weight", (0, 8, 3, 3)), ["model.7.weight has shape (0, 8, 3, 3)"]),
        (changed("model.2.weight", (4,)), ["key model.2.bias is missing", "affine norms"]),
        (lambda s: {**s, "model.2.weight": torch.ones(4), "model.2.running_mean": torch.ones(4)},
         ["model.2.weight of shape (4,) belongs to a batch norm", "--norm instance"]),
        (changed("model.1.weight", (4, 3, 5, 5)), ["model.1.weight has shape (4, 3, 5, 5)", "channels, 7, 7"]),
        (changed("model.4.bias", (8,), torch.int64), ["model.4.bias is of type torch.int64"]),
        (lambda s: PatchDiscriminator(3, 4).state_dict(),
         ["looks like a PatchGAN discriminator (model.0.weight has shape (4, 3, 4, 4))", "model.1.weight"]),
        (lambda s: below("module.")(PatchDiscriminator(3, 4).state_dict()), ["looks like a PatchGAN discriminator"]),
        (lambda s: {"a": torch.ones(2)}, ["first key is a;"]),
        (lightning("netG_A.", "netG_B."), ["2 generators (netG_A.model.1.weight, netG_B.model.1.weight)"]),
        (lambda s: {}, ["expected a state dict", "got nothing"]),
        (lambda s: {"model.1.weight": "text"}, ["'model.1.weight' of type str"]),
        (lambda s: [1, 2], ["expected a state dict", "got list"]),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(tmp_path, change, told):
    path = tmp_path / "bad.pth"
    torch.save(change(dict(generator().state_dict())), path)
    with pytest.raises(InputError) as error:
        read_generator(path)
    message = str(error.value)
    assert [part for part in (f"{path}: ", *told) if part not in message] == []
    assert "\n" not in message


class Payload:
    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "content", [Payload(), {"model.1.weight": Payload()}, nn.Conv2d(1, 1, 1)], ids=["object", "value", "network"]
)
def test_code_is_refused_with_an_explanation(tmp_path, capsys, content, old):
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(
        InputError, match=r"evil\.pth: .* it holds code \(\S+\), which loading would run.*state_dict\(\)"
    ):
        read_generator(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ending", ["pth", "safetensors", "ckpt"])
@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"\x80\x02", b"PK\x03\x04", b"{}", pickle.dumps([1]), b"\xff" * 999], ids=repr
)
def test_other_files_are_refused(tmp_path, ending, content):
    path = tmp_path / f"other.{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"other\.{ending}: .*; expected a whole \.safetensors file, or") as error:
        read_generator(path)
    assert "\n" not in str(error.value)


def test_metadata_that_contradict_the_tensors_are_refused(tmp_path):
    torch.save(generator().state_dict(), tmp_path / "a.pth")
    torch.save(generator((8,) * 8).state_dict(), tmp_path / "b.pth")
    small, wide = (read_generator(tmp_path / name) for name in ("a.pth", "b.pth"))
    text = small.architecture(SIZE).model_dump_json()
    save_file(wide.weights, tmp_path / "c.safetensors", {"architecture": text})
    with pytest.raises(
        InputError, match=r"c\.safetensors: its metadata say .*4_4_4_4_4_4_4_4, its tensors .*8_8_8_8_8_8_8_8"
    ):
        read_generator(tmp_path / "c.safetensors")
    save_file(wide.weights, tmp_path / "d.safetensors", {"architecture": text[:-9]})
    with pytest.raises(InputError, match=r"d\.safetensors: its metadata hold no architecture"):
        read_generator(tmp_path / "d.safetensors")


@pytest.mark.parametrize("name", ["g.pth", "g.safetensors"])
def test_what_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch, name):
    torch.save(generator().state_dict(), tmp_path / "a.pth")
    (tmp_path / name).write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(TrainingError, match=f"{name}: cannot be written: No space left on device; make room"):
        save_generator(read_generator(tmp_path / "a.pth"), tmp_path / name, "ganc", SIZE)
    assert (tmp_path / name).read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2


class Stranger(nn.Module):
    """A CycleGAN generator with affine norms and blocks called block, as people write it."""

    def __init__(self, width, n_blocks):
        super().__init__()

        def normed(convolution):
            return [convolution, nn.InstanceNorm2d(convolution.out_channels, affine=True)]

        layers = [nn.ReflectionPad2d(3), *normed(nn.Conv2d(3, width, 7)), nn.ReLU()]
        for factor in (1, 2):
            down = nn.Conv2d(factor * width, 2 * factor * width, 3, stride=2, padding=1)
            layers += [*normed(down), nn.ReLU()]
        layers += [StrangerBlock(4 * width, normed) for _ in range(n_blocks)]
        for factor in (4, 2):
            up = nn.ConvTranspose2d(factor * width, factor * width // 2, 3, 2, padding=1, output_padding=1)
            layers += [*normed(up), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())

    def forward(self, x):
        return self.model(x)


class StrangerBlock(nn.Module):
    def __init__(self, width, normed):
        super().__init__()
        first, second = (normed(nn.Conv2d(width, width, 3)) for _ in range(2))
        self.block = nn.Sequential(nn.ReflectionPad2d(1), *first, nn.ReLU(), nn.ReflectionPad2d(1), *second)

    def forward(self, x):
        return x + self.block(x)


@pytest.mark.parametrize(("width", "n_blocks"), [(4, 3), (5, 9)])
def test_a_generator_of_a_stranger_computes_what_it_did(tmp_path, width, n_blocks):
    torch.manual_seed(6)
    network = Stranger(width, n_blocks).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.5)
    torch.save(network.state_dict(), tmp_path / "g.pth")
    file = read_generator(tmp_path / "g.pth")
    assert file.cost(SIZE).params == sum(parameter.numel() for parameter in network.parameters())
    assert (image_of(file.network()) - image_of(network)).abs().max() < 1e-5
    save_generator(file, tmp_path / "g.safetensors", "ganc", SIZE)
    again = read_generator(tmp_path / "g.safetensors")
    assert again.config == file.config
    assert torch.equal(image_of(again.network()), image_of(file.network()))


def test_the_released_generator_is_recognised():
    name = "gan_compression_horse2zebra_16_16_32_16_32_32_16_16"
    file = read_generator(real_data(f"weights/{name}.pth"))
    assert "_".join(map(str, file.widths.values())) == name.removeprefix("gan_compression_horse2zebra_")
    assert file.config == ResnetConfig(separable=True)
    assert f"{file.cost((256, 256)).macs_published / 1e9:.2f}" == "2.55"
