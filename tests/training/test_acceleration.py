import contextlib
import copy
from pathlib import Path

import pytest
import torch
from tiny import GAUGAN, Waits, fake_cuda, recipe, search_space, supernet_of, write_space
from torch.autograd.graph import saved_tensors_hooks

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.fast_ops import FasterKernels
from ganc_nni.core.io import load_weights
from ganc_nni.data import Batch
from ganc_nni.generators import spade
from ganc_nni.generators.resnet import LABELS, ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.losses.discriminators import PatchDiscriminator
from ganc_nni.recipe import AccelerationRecipe
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.supernet import student_channels, train_supernet
from ganc_nni.supernet.distillation import DistillationModule, make_supernet
from ganc_nni.supernet.sampling import activate
from ganc_nni.training import gan
from ganc_nni.training.acceleration import accelerate, checkpoint_blocks
from ganc_nni.training.cyclegan import CycleGanModule
from ganc_nni.training.gaugan import GauGanModule
from ganc_nni.training.loop import PRECISIONS
from ganc_nni.training.pix2pix import Pix2PixModule

WAYS = {
    "channels_last": {"channels_last": True},
    "plain Adam": {"fused_adam": False},
    "checkpointed": {"gradient_checkpointing": True},
}
MODULES = pytest.mark.parametrize("kind", [Pix2PixModule, CycleGanModule])


@pytest.fixture
def trained(tiny_recipe, pairs, fit, monkeypatch):
    """Steps of both sides in one epoch, last losses, and the gradients of the last step.

    The rate is so low that no step changes what the next one sees: Adam makes a step of the same length of a gradient
    that is nothing but rounding, so that trainings that are equal but for rounding soon go different ways.
    """

    def run(kind, acceleration=None, count=2, batch_size=1, **schedule):
        schedule = {"epochs": 1, "decay_epochs": 0, "learning_rate": 1e-9, **schedule}
        tiny = tiny_recipe(data={"layout": "paired"}, schedule=schedule, pool_size=0)
        tiny = tiny.model_copy(update={"acceleration": AccelerationRecipe(**(acceleration or {}))})
        torch.manual_seed(0)
        module = kind(tiny, metric=None)
        for networks in (module.generator_modules(), module.discriminator_modules()):
            for network in networks:
                for parameter in network.parameters():
                    parameter.data *= 3  # gradients far from rounding
        gradients = {}

        def keep(optimizer):
            own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            for name, parameter in module.named_parameters():
                if id(parameter) in own and parameter.ndim > 1:  # biases before a norm have gradients of rounding
                    gradients[name] = parameter.grad.clone()

        monkeypatch.setattr(module, "on_before_optimizer_step", keep)
        with FasterKernels():  # as a stage has it
            trainer = fit(
                module, pairs(count), batch_size=batch_size, precision=PRECISIONS[tiny.acceleration.precision]
            )
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return trainer.global_step, losses, gradients

    return run


def near(gradients, expected, tolerance):
    """Whether each gradient differs by less than ``tolerance`` of the norm of the expected one."""
    assert gradients.keys() == expected.keys()
    return all((gradients[name] - goal).norm() < tolerance * goal.norm() for name, goal in expected.items())


@MODULES
@pytest.mark.parametrize("way", WAYS)
def test_no_way_changes_losses_or_gradients(trained, kind, way):
    steps, losses, gradients = trained(kind, WAYS[way])
    _, expected_losses, expected = trained(kind)
    assert steps == 4
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    assert near(gradients, expected, 1e-3)


@MODULES
def test_half_precision_rounds_losses_and_gradients(trained, kind):
    _, losses, gradients = trained(kind, {"precision": "bf16"})
    _, expected_losses, expected = trained(kind)
    assert losses == pytest.approx(expected_losses, rel=0.05)
    assert near(gradients, expected, 0.5)
    assert not near(gradients, expected, 1e-3)
    assert all(gradient.dtype == torch.float32 for gradient in gradients.values())


@MODULES
def test_batches_that_accumulate_are_one_large_batch(trained, kind):
    steps, _, gradients = trained(kind, accumulate=2, count=4)
    large_steps, _, expected = trained(kind, batch_size=2, count=4)
    assert steps == large_steps == 4
    assert near(gradients, expected, 1e-3)
    assert not near(trained(kind, count=4)[2], expected, 1e-3)


def test_too_few_batches_at_the_end_of_an_epoch_make_a_step_of_their_own(trained):
    steps, _, gradients = trained(Pix2PixModule, accumulate=3, count=5)
    large_steps, _, expected = trained(Pix2PixModule, batch_size=3, count=5)
    assert steps == large_steps == 4
    assert near(gradients, expected, 1e-3)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (lambda: ResnetGenerator([4] * 8, n_blocks=3), (2, 3, 32, 32)),
        (lambda: SpadeGenerator([1] * 8, 5, upsampling="normal", spectral=True), (2, 5, 64, 64)),
    ],
)
def test_checkpointed_blocks_keep_less_and_learn_the_same_to_the_bit(network, shape):
    torch.manual_seed(0)
    plain = network().train()
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed)
    kept = {}
    for name, each in (("plain", plain), ("checkpointed", checkpointed)):
        kept[name] = 0

        def keep(tensor, name=name):
            kept[name] += tensor.numel()
            return tensor

        for step in range(2):
            x = torch.rand(shape, generator=torch.Generator().manual_seed(step))
            with FasterKernels(), saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = each(x).square().mean()
            loss.backward()
    assert kept["checkpointed"] < 0.7 * kept["plain"]
    expected = dict(plain.named_parameters())
    for name, parameter in checkpointed.named_parameters():
        assert torch.equal(parameter.grad, expected[name].grad), name
    expected = dict(plain.named_buffers())
    assert all(torch.equal(buffer, expected[name]) for name, buffer in checkpointed.named_buffers())
    assert checkpointed.state_dict().keys() == plain.state_dict().keys()


EVERY_LOSS = ("recon", "distill", "kernel_alignment", "channel", "ssim", "tv", "discriminator_features", "wavelet")


def student_module(tiny):
    """Distils the smallest sub-generator with every loss that needs no weights of VGG19."""
    run = Run(tiny)
    teacher = run.teacher_config.build(list(run.teacher_widths.values()))
    module = DistillationModule(tiny, tiny.supernet.schedule, teacher, student_channels(run), None)
    module.set_model(make_supernet(run.new_space()))
    activate(module.model, run.space.smallest())
    return module


def sandwich_module(tiny):
    """The same for a step of several sub-generators."""
    module, space = student_module(tiny), Run(tiny).space
    module.training_step = lambda batch, _: module.learn(batch, [space.largest(), space.smallest()], follow_first=True)
    return module


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("make", "sections"),
    [
        (lambda tiny: CycleGanModule(tiny, None), {"data": {"layout": "unpaired"}}),
        (lambda tiny: Pix2PixModule(tiny, None), {"data": {"layout": "paired"}}),
        (lambda tiny: GauGanModule(tiny, None), GAUGAN),
        (student_module, {"distillation": {f"lambda_{name}": 1 for name in EVERY_LOSS}}),
        (sandwich_module, {}),
    ],
)
def test_a_step_on_cuda_stays_there_and_waits_for_nothing(tiny_folder, monkeypatch, make, sections, precision):
    write_space(Path("space.json"), labels=spade.LABELS if sections is GAUGAN else LABELS)
    tiny, losses = recipe("space.json", **sections), {}
    with fake_cuda(autocast=precision == "bf16"), FasterKernels():
        with torch.device("cuda"):
            module = make(tiny)
            channels = (tiny.data.in_channels, tiny.data.out_channels)
            batch = Batch(*(torch.empty(2, count, 64, 64) for count in channels))
        monkeypatch.setattr(module, "optimizers", lambda: (None, None))
        monkeypatch.setattr(module, "toggled_optimizer", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(module, "minimise", lambda _, found, *turn: losses.update(found))
        with Waits() as waits:
            module.training_step(batch, 0)
    assert not waits.found
    assert len(losses) >= 3
    assert all(loss.device.type == "cuda" and loss.shape == () for loss in losses.values())


def distilled(folder, **acceleration):
    """The supernet's weights and the scores of its extremes."""
    checkpoint = folder / "teacher.pth"
    torch.manual_seed(0)
    torch.save(ResnetGenerator([8] * 8, n_blocks=3).state_dict(), checkpoint)
    name = "_".join(["run", *acceleration])
    run = Run(recipe("space.json", name, acceleration=acceleration, teacher={"checkpoint": checkpoint}))
    scores = train_supernet(run)
    return load_weights(run.supernet_weights), scores


@pytest.mark.parametrize("way", [*WAYS, "bf16"])
def test_a_supernet_can_be_distilled_any_way(tiny_folder, way):
    weights, scores = distilled(tiny_folder, **WAYS.get(way, {"precision": "bf16"}))
    expected, expected_scores = distilled(tiny_folder)
    assert weights.keys() == expected.keys()
    assert scores == pytest.approx(expected_scores, rel=0.1)
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in weights.values())


@pytest.mark.filterwarnings("default:The .grad attribute of a Tensor")  # torch.compile's own look at leaves
def test_what_has_fixed_widths_is_compiled_and_computes_the_same(tiny_folder):
    torch.manual_seed(0)
    plain = PatchDiscriminator(3, width=4, n_layers=1)
    compiled, supernet = copy.deepcopy(plain), supernet_of(search_space(), seed=0)
    for network in (compiled, supernet):
        accelerate(network, AccelerationRecipe(compile=True))
    x = torch.rand(1, 3, 16, 16)
    with torch.profiler.profile(acc_events=True) as profile:
        found = compiled(x)
    torch.testing.assert_close(found, plain(x))
    assert any("ompiled" in event.key for event in profile.key_averages())
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert supernet._compiled_call_impl is None


def test_half_precision_that_needs_cuda_is_refused_before_anything_is_done(tiny_folder):
    with pytest.raises(InputError, match=r"^acceleration.precision fp16 needs CUDA, this run is on cpu; use bf16"):
        check(Run(recipe("space.json", acceleration={"precision": "fp16"})))


def test_losses_that_are_seldom_looked_at_are_before_a_checkpoint(trained, tiny_recipe, pairs, fit, monkeypatch):
    module = Pix2PixModule(tiny_recipe(), metric=None)
    fit(module, pairs(1))
    module._losses["gan"] = torch.tensor(float("nan"))
    with pytest.raises(TrainingError, match="losses are not finite"):
        module.on_save_checkpoint({})
    assert gan.CHECKED > 1
