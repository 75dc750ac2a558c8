import copy
from dataclasses import replace

import nni
import pytest
import torch
from families import KINDS, images, labels_of, new, random_teacher
from tiny import recipe
from torch import nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import save_weights
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.supernet import student_channels
from ganc_nni.stages.warm_start import inherit_parent
from ganc_nni.supernet.distillation import DistillationModule, make_supernet
from ganc_nni.supernet.inherit import ChannelOrder, channel_order, inherit, inherit_mappings
from ganc_nni.supernet.sampling import activate
from ganc_nni.training.gan import initialise


def supernet(kind, choices):
    """An untrained supernet with the choices of each label."""
    labels = labels_of(kind)
    space = new(kind, [nni.choice(label, list(each)) for label, each in zip(labels, choices, strict=True)])
    supernet = make_supernet(space)
    initialise(supernet, kind.split()[-1] if "unet" not in kind else "unet")
    return supernet.eval()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "affine" not in kind])
def test_the_largest_subgenerator_is_the_teacher(kind, dtype):
    labels = labels_of(kind)
    torch.manual_seed(3)
    widest = [int(width) for width in torch.randint(2, 9, (len(labels),))]
    teacher = random_teacher(kind, widest, seed=4, dtype=dtype)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    x = images(kind, seed=5, dtype=dtype)
    student = supernet(kind, [(max(1, width // 2), width) for width in widest]).to(dtype)
    order = channel_order(teacher, x)
    inherit(student, teacher, order)
    activate(student, dict(zip(labels, widest, strict=True)))
    with torch.no_grad():
        for image in images(kind, seed=6, dtype=dtype):
            (output, features), (taught, taught_features) = (
                network.forward_with_features(image) for network in (student, teacher)
            )
            tolerance = 1e-9 if dtype == torch.float64 else 1e-5
            assert (output - taught).abs().max() < tolerance
            for feature, expected, channels in zip(features, taught_features, order.features, strict=True):
                assert torch.allclose(feature, expected[:, channels], atol=100 * tolerance, rtol=100 * tolerance)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_scales_of_norms_are_folded_into_convolutions(separable, seed):
    """Of either sign, exactly, where no shift comes before a ReLU and the norms of the trunk have one scale."""
    torch.manual_seed(seed)
    options = {"n_blocks": 3, "separable": separable}
    teacher = ResnetGenerator([4, 5, 6, 3, 4, 5, 6, 4], affine=True, **options).double().eval()
    trunk = torch.rand(24, dtype=torch.float64) + 0.5
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            nn.init.normal_(parameter, 0, 0.3)
            if parameter.ndim == 1 and isinstance(teacher.get_submodule(name.rpartition(".")[0]), nn.InstanceNorm2d):
                if name.endswith("bias"):
                    parameter.zero_()
                elif name == "model.8.weight" or name.endswith("conv_block.7.weight"):
                    parameter.copy_(trunk * parameter.sign())
        for index in (10, 11, 12) if separable else ():  # a pointwise convolution and a norm come next
            nn.init.normal_(teacher.model[index].conv_block[1].conv[1].bias)
    student = ResnetGenerator([4, 5, 6, 3, 4, 5, 6, 4], **options).double().eval()
    order = channel_order(teacher, images("resnet", seed=seed))
    assert len(order.norms) == 11 + 6 * separable
    inherit(student, teacher, order)
    (image,) = images("resnet", count=1, seed=seed + 5)
    with torch.no_grad():
        (output, features), (taught, taught_features) = (
            network.forward_with_features(image) for network in (student, teacher)
        )
    assert (output - taught).abs().max() < 1e-9
    maps = [nn.Conv2d(24, 24, 1).double() for _ in features]
    inherit_mappings(maps, order)
    with torch.no_grad():
        for mapping, feature, expected in zip(maps, features, taught_features, strict=True):
            assert (mapping(feature) - expected).abs().max() < 1e-8


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_teachers_channels_does_not_matter(kind):
    """A teacher whose channels are shuffled is the same function, and gives the same sub-generators."""
    labels = labels_of(kind)
    widths = [4 if index % 2 else 6 for index in range(len(labels))]
    teacher, x = random_teacher(kind, widths, seed=7), images(kind, seed=8)
    order, shuffled = channel_order(teacher, x), new(kind, widths).double().eval()
    torch.manual_seed(9)
    memo = {}  # axes that share an order are shuffled alike

    def shuffle(channels):
        key = tuple(channels.tolist())
        fixed = key == tuple(range(len(key)))
        return memo.setdefault(key, channels if fixed else channels[torch.randperm(len(channels))])

    axes = {name: {axis: shuffle(each) for axis, each in found.items()} for name, found in order.axes.items()}
    inherit(shuffled, teacher, ChannelOrder(axes, []))
    assert any(not torch.equal(a, b) for a, b in zip(shuffled.parameters(), teacher.parameters(), strict=True))
    narrow = []
    for network in (teacher, shuffled):
        student = new(kind, [width // 2 for width in widths]).double().eval()
        inherit(student, network, channel_order(network, x))
        narrow.append(student)
    with torch.no_grad():
        assert (teacher(x[0]) - shuffled(x[0])).abs().max() < 1e-9
    for (name, first), second in zip(narrow[0].state_dict().items(), narrow[1].state_dict().values(), strict=True):
        assert torch.allclose(first.double(), second.double(), atol=1e-12), name


def test_the_channels_that_matter_come_first():
    """Channels that nobody reads, or that are never active, are the first to be dropped."""
    widths = [8] * 8
    teacher, x = random_teacher("separable resnet", widths, seed=10), images("separable resnet", seed=11)
    with torch.no_grad():
        for layer in (4, -6):  # what follows down_0 and up_0
            weight = teacher.model[layer].weight
            weight.select(0 if layer < 0 else 1, 0).zero_()
    order = channel_order(teacher, x)
    assert order.axes["model.1.weight"][0][-1] == 0
    assert order.axes["model.4.weight"][1][-1] == 0
    up = next(name for name in order.axes if teacher.get_parameter(name) is teacher.model[-6].weight)
    assert order.axes[up][0][-1] == 0


@pytest.mark.parametrize(("kind", "channels"), [("resnet", 4), ("spade", 16), ("unet", 8)])
def test_what_is_added_shares_one_order(kind, channels):
    teacher = random_teacher(kind, [6] * len(labels_of(kind)), seed=12)
    axes = channel_order(teacher, images(kind, seed=13)).axes
    ties = {
        "resnet": [("model.7.weight", 0)]
        + [(f"model.{block}.conv_block.6.weight", 0) for block in (10, 11, 12)]
        + [(f"model.{block}.conv_block.1.weight", 1) for block in (10, 11, 12)]
        + [("model.13.weight", 0)],
        "spade": [
            ("fc.weight", 0),
            ("head_0.conv_1.weight", 0),
            ("head_0.norm_0.mlp_gamma.weight", 0),
            ("head_0.norm_0.param_free_norm.running_mean", 0),
            ("up_0.norm_s.mlp_beta.weight", 0),
            ("up_0.conv_s.weight", 1),
            ("up_0.conv_0.weight", 1),
        ],
        "unet": [("encode_2.1.weight", 0), ("encode_3.1.weight", 1), ("skip_2.conv.weight", 0)],
    }[kind]
    orders = [axes[name][axis] for name, axis in ties]
    assert all(torch.equal(orders[0], each) for each in orders)
    assert len(orders[0]) % channels == 0
    assert not torch.equal(orders[0], torch.arange(len(orders[0])))
    own = {
        "resnet": ["model.10.conv_block.1.weight", "model.11.conv_block.1.weight"],
        "spade": ["head_0.norm_0.mlp_shared.0.weight", "head_0.norm_1.mlp_shared.0.weight"],
        "unet": ["encode_3.1.weight", "norm"],
    }[kind]
    if kind != "unet":
        assert not torch.equal(*(axes[name][0] for name in own))


@pytest.mark.parametrize("kind", KINDS)
def test_a_wider_student_keeps_its_other_channels(kind):
    labels = labels_of(kind)
    teacher, x = random_teacher(kind, [4] * len(labels), seed=14), images(kind, seed=15)
    torch.manual_seed(16)
    student = new(kind, [6] * len(labels)).double()
    initialise(student, "resnet")
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    order = channel_order(teacher, x)
    inherit(student, teacher, order)
    order = order.fitting(student)
    for name, tensor in teacher.state_dict().items():
        box = tuple(map(slice, tensor.shape))
        found, outside = student.state_dict()[name], torch.ones_like(student.state_dict()[name], dtype=torch.bool)
        outside[box] = False
        assert torch.equal(found[box], order.sorted(name, tensor).to(found)), name
        assert torch.equal(found[outside], before[name][outside]), name


def test_a_channel_that_is_not_understood_stays_in_place():
    """After a function that may move channels, here a shuffle, none of them is moved."""

    class Shuffling(ResnetGenerator):
        def forward_with_features(self, x):
            x, features = self.model[:4](x), []
            x = nn.functional.channel_shuffle(x, 2)
            return self.model[4:](x), features

    torch.manual_seed(17)
    teacher = Shuffling(widths=[8] * 8, n_blocks=3).double().eval()
    axes = channel_order(teacher, images("resnet", seed=18)).axes
    assert torch.equal(axes["model.1.weight"][0], torch.arange(8))
    assert torch.equal(axes["model.4.weight"][1], torch.arange(8))
    assert not torch.equal(axes["model.4.weight"][0], torch.arange(16))


def run_with(folder, teacher, **student):
    """A run of the tiny recipe whose teacher is a checkpoint."""
    save_weights(folder / "teacher.pth", teacher.state_dict())
    return Run(recipe("space.json", teacher={"checkpoint": folder / "teacher.pth"}, student=student))


def teacher_with(n_blocks=3, separable=True):
    torch.manual_seed(19)
    teacher = ResnetGenerator([8] * 8, n_blocks=n_blocks, separable=separable)
    initialise(teacher)
    return teacher.eval()


def start(run):
    """What a supernet and its mappings of a run start from."""
    torch.manual_seed(20)
    supernet = make_supernet(run.new_space())
    initialise(supernet)
    module = DistillationModule(run.recipe, run.recipe.finetune, run.load_teacher(), student_channels(run), None)
    before = [tensor.clone() for tensor in supernet.parameters()]
    inherit_parent(run, supernet, module.mappings)
    changed = [
        name
        for (name, now), old in zip(supernet.named_parameters(), before, strict=True)
        if name.endswith("weight") and not torch.equal(now, old)
    ]
    activate(supernet, run.space.largest())
    return supernet.eval(), module.mappings, changed


@pytest.mark.parametrize("inherit", ["auto", "teacher"])
def test_a_supernet_starts_as_its_teacher(tiny_folder, inherit, caplog):
    teacher = teacher_with()
    run = run_with(tiny_folder, teacher, inherit=inherit)
    check(run)
    with caplog.at_level("INFO"):
        supernet, mappings, _ = start(run)
    x = run.data.search.sources[0][None]
    with torch.no_grad():
        (output, features), (taught, taught_features) = (net.forward_with_features(x) for net in (supernet, teacher))
        assert (output - taught).abs().max() < 1e-5
        for mapping, feature, expected in zip(mappings, features, taught_features, strict=True):
            assert torch.allclose(mapping(feature), expected, atol=1e-4)
    assert [record.message for record in caplog.records if "inherits" in record.message] == [
        "the student inherits 18 of its 18 convolutions from the teacher, most important channels first"
    ]


def test_blocks_of_full_convolutions_become_separable_ones(tiny_folder, caplog):
    """Without training: nearer to the teacher than random blocks, with all the rest inherited."""
    teacher = teacher_with(separable=False)
    run = run_with(tiny_folder, teacher, inherit="teacher")
    check(run)
    with caplog.at_level("INFO"):
        supernet, _, changed = start(run)
    assert len(changed) == 18
    assert [record.message for record in caplog.records if "inherits" in record.message] == [
        "the student inherits 18 of its 18 convolutions from the teacher, most important channels first"
    ]
    randomised = copy.deepcopy(supernet)
    torch.manual_seed(21)
    for index in (10, 11, 12):
        initialise(randomised.model[index])
    x = torch.stack([run.data.search.sources[index] for index in range(8)])
    with torch.no_grad():
        distances = [(network(x) - teacher(x)).square().mean() for network in (supernet, randomised)]
    assert distances[0] < 0.9 * distances[1]


def test_a_plain_student_starts_near_a_teacher_of_affine_norms(tiny_folder, caplog):
    """Scales folded and convolutions solved come nearer than weights alone; one line says what has become of them."""
    torch.manual_seed(22)
    teacher = ResnetGenerator([8] * 8, n_blocks=3, separable=True, affine=True).eval()
    for name, parameter in teacher.named_parameters():
        nn.init.normal_(parameter, 1 if parameter.ndim == 1 and name.endswith("weight") else 0, 0.2)
    run = run_with(tiny_folder, teacher, inherit="teacher")
    check(run)
    with caplog.at_level("INFO"):
        supernet, _, _ = start(run)
    (line,) = [record.message for record in caplog.records if "scales and shifts" in record.message]
    assert "the teacher's 17 instance norms" in line
    bare = run.student_config.build([8] * 8).eval()
    inherit(bare, teacher, replace(channel_order(teacher, run.training_inputs(4)), factors={}))
    x = torch.stack([run.data.search.sources[index] for index in range(8)])
    with torch.no_grad():
        distances = [(network(x) - teacher(x)).square().mean() for network in (supernet, bare)]
    assert distances[0] < 0.5 * distances[1]


def test_what_the_teacher_does_not_have_alike(tiny_folder, caplog):
    """Auto starts from random weights and says so; teacher is refused before any training; none is silent."""
    teacher = teacher_with(n_blocks=6)
    with caplog.at_level("INFO"):
        _, _, changed = start(run_with(tiny_folder, teacher))
    assert changed == []
    (line,) = [record.message for record in caplog.records if "the student" in record.message]
    assert all(word in line for word in ("random weights", "6 blocks", "3 blocks"))
    caplog.clear()
    for sections in ({"student": {"inherit": "teacher"}}, {"finetune": {"start": "reconstructed"}}):
        run = Run(recipe("space.json", teacher={"checkpoint": tiny_folder / "teacher.pth"}, **sections))
        with pytest.raises(InputError, match=r"but the teacher has no layer model\.1 \(and 17 more\)") as caught:
            check(run)
        assert "\n" not in str(caught.value)
    with caplog.at_level("INFO"):
        _, _, changed = start(run_with(tiny_folder, teacher, inherit="none"))
    assert changed == []
    assert not [record for record in caplog.records if "the student" in record.message]


def test_a_student_of_separable_convolutions_cannot_make_full_ones(tiny_folder, caplog):
    """The other way round the blocks start from random weights."""
    with caplog.at_level("INFO"):
        _, _, changed = start(run_with(tiny_folder, teacher_with(), separable=False))
    assert len(changed) == 6
    (line,) = [record.message for record in caplog.records if "the student" in record.message]
    words = ("inherits 6 of its 12", "model.10.conv_block.1 (and 5 more)", "separable convolutions, the student")
    assert all(word in line for word in words)
