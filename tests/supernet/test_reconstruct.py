import pytest
import torch
from families import KINDS, images, labels_of, new, random_teacher
from tiny import recipe
from torch import nn

from ganc_nni.core.io import load_weights, save_weights
from ganc_nni.core.torch_functions import FunctionMode
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.supernet.calibration import batch_norms, calibrate
from ganc_nni.supernet.inherit import CONVOLUTIONS, arguments_of, channel_order, inherit
from ganc_nni.supernet.reconstruct import Reconstruction, _pick, _Pixels, _solve, reconstruct
from ganc_nni.training.gan import initialise

GEOMETRIES = {
    "plain": (nn.Conv2d, {"kernel_size": 3}),
    "padded": (nn.Conv2d, {"kernel_size": (3, 5), "padding": (1, 2)}),
    "strided": (nn.Conv2d, {"kernel_size": 4, "stride": 2, "padding": 1}),
    "dilated": (nn.Conv2d, {"kernel_size": 3, "dilation": 2}),
    "pointwise": (nn.Conv2d, {"kernel_size": 1, "bias": False}),
    "depthwise": (nn.Conv2d, {"kernel_size": 3, "groups": 6}),
    "transposed": (nn.ConvTranspose2d, {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}),
    "transposed, even": (nn.ConvTranspose2d, {"kernel_size": 4, "stride": 2, "padding": 1}),
    "transposed, uneven sides": (nn.ConvTranspose2d, {"kernel_size": (3, 4), "stride": (1, 3), "bias": False}),
}


class Solve(FunctionMode):
    """Solves the convolution that is computed for a target."""

    def __init__(self, target, ridge):
        super().__init__()
        self.target, self.ridge = target, ridge

    def call(self, function, arguments, options):
        if function in CONVOLUTIONS:
            named, transposed = arguments_of(function, arguments, options), "transpose" in function.__name__
            pixels, targets = _Pixels(len(self.target), 100), []
            _pick(transposed, named, named["weight"].shape, self.target, pixels, targets)
            _solve(transposed, named, targets, pixels, self.ridge)
        return function(*arguments, **options)


@pytest.mark.parametrize("kind", GEOMETRIES)
def test_a_convolution_is_found_again_from_what_it_makes(kind):
    """From weights that are far off: every kind of geometry, all phases of a transposed one, with and without bias."""
    class_, options = GEOMETRIES[kind]
    torch.manual_seed(1)
    right, wrong = class_(6, 6, **options).double(), class_(6, 6, **options).double()
    x = torch.randn(3, 6, 13, 12, dtype=torch.float64)
    with torch.no_grad():
        target = right(x)
        with Solve(target, 1e-12):
            found = wrong(x)
    assert (found - target).abs().max() < 1e-6
    for parameter, expected in zip(wrong.parameters(), right.parameters(), strict=True):
        assert (parameter - expected).abs().max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_narrow_network_gets_nearer_to_the_teacher(kind):
    """On images that nothing was solved with; and as wide as the teacher it is the teacher already."""
    widths = [4] * len(labels_of(kind))
    teacher, x = random_teacher(kind, widths, seed=2), images(kind, count=3, seed=3)
    calibrate(teacher, [torch.cat(x)])
    order, others = channel_order(teacher, x), images(kind, seed=4)

    def distance(network):
        calibrate(network, [torch.cat(x)])
        with torch.no_grad():
            return sum(float((network(image) - teacher(image)).square().mean()) for image in others)

    sliced, solved = (new(kind, [3] * len(widths)).double().eval() for _ in range(2))
    for network in (sliced, solved):
        inherit(network, teacher, order)
    reconstruct(solved, teacher, order, x)
    assert distance(solved) < 0.9 * distance(sliced)

    if not batch_norms(teacher):  # whose statistics are measured anew
        whole = new(kind, widths).double().eval()
        inherit(whole, teacher, order)
        reconstruct(whole, teacher, order, x)
        assert distance(whole) < 1e-12


@pytest.mark.parametrize("kind", ["separable resnet", "unet with batch norms"])
def test_networks_solved_together_are_those_solved_one_by_one(kind):
    """What is shared changes nothing: widths that differ first at the start, in the middle and nowhere."""
    labels, x = labels_of(kind), images(kind, count=1, seed=8)
    teacher = random_teacher(kind, [4] * len(labels), seed=9)
    order = channel_order(teacher, x)
    widths = [[4] * len(labels), [2] * len(labels), [2] * 4 + [4] * (len(labels) - 4)]

    def inherited(each):
        student = new(kind, each).double().eval()
        inherit(student, teacher, order)
        return student

    together = Reconstruction(teacher, order, x, new(kind, widths[0]))
    for each in (*widths, widths[1]):
        shared, alone = inherited(each), inherited(each)
        together.solve(shared)
        reconstruct(alone, teacher, order, x)
        for (name, first), second in zip(shared.state_dict().items(), alone.state_dict().values(), strict=True):
            assert torch.equal(first, second), (each, name)


def test_weights_that_no_image_asks_for_stay():
    """A class that is on none of the images keeps the teacher's weights, as good as they were."""
    teacher = random_teacher("spade", [4] * 8, seed=5)
    x = images("spade", seed=6)
    for image in x:
        image[:, -1] = 0
    order = channel_order(teacher, x)
    student = new("spade", [3] * 8).double().eval()
    inherit(student, teacher, order)
    before = student.fc.weight.clone()
    reconstruct(student, teacher, order, x)
    assert torch.equal(student.fc.weight[:, -1], before[:, -1])


@pytest.mark.parametrize("start", ["auto", "supernet", "reconstructed"])
def test_fine_tuning_starts_from_the_better_weights(tiny_folder, start, caplog):
    torch.manual_seed(7)
    teacher = ResnetGenerator([8] * 8, n_blocks=3, separable=True)
    initialise(teacher)
    save_weights(tiny_folder / "teacher.pth", teacher.state_dict())
    one = {"epochs": 1, "decay_epochs": 0, "batch_size": 16, "validate_every": 1}
    sections = {"supernet": {"schedule": one}, "finetune": {**one, "start": start}, "student": {"inherit": "none"}}
    run = Run(recipe("space.json", teacher={"checkpoint": tiny_folder / "teacher.pth"}, **sections))
    pipeline = Pipeline(run)
    with caplog.at_level("INFO"):
        pipeline.run_until("finetune")
    figures = pipeline.figures("finetune")
    found = load_weights(run.folder / "finetune" / "compressed.safetensors")
    network = Architecture.load(run.folder / "architecture.json").network()
    network.load_state_dict(found)
    assert run.evaluator("search").score(network) == pytest.approx(min(figures["before"], figures["after"]), rel=1e-6)
    lines = [each.message for each in caplog.records if "fine-tuning starts from the" in each.message]
    if start == "auto":
        assert figures["before"] == min(figures["supernet"], figures["reconstructed"])
        assert len(lines) == 1
    else:
        assert set(figures) == {"before", "after"}
        assert lines == []
