"""Training steps of every kind on a CUDA device, next to the same steps on the CPU."""

import contextlib
import copy
import math
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from tiny import CUDA, GAUGAN, recipe, write_space
from torch.utils.data import DataLoader, default_collate

from ganc_nni.core.fast_ops import FasterKernels
from ganc_nni.data import Batch
from ganc_nni.generators import FAMILIES
from ganc_nni.losses.discriminators import PatchDiscriminator
from ganc_nni.recipe import AccelerationRecipe
from ganc_nni.run import Run
from ganc_nni.stages.supernet import student_channels
from ganc_nni.supernet.distillation import DistillationModule, make_supernet
from ganc_nni.supernet.sampling import activate
from ganc_nni.training.acceleration import accelerate
from ganc_nni.training.cyclegan import CycleGanModule
from ganc_nni.training.gaugan import GauGanModule
from ganc_nni.training.loop import PRECISIONS
from ganc_nni.training.pix2pix import Pix2PixModule

pytestmark = [*CUDA]

# a rate at which no step changes what the next one sees; see test_acceleration.py
SCHEDULE = {"epochs": 1, "decay_epochs": 0, "batch_size": 2, "learning_rate": 1e-9}
LOSSES = ("recon", "distill", "kernel_alignment", "channel", "ssim", "discriminator_features", "wavelet")
SECTIONS = {
    "cyclegan": {"data": {"layout": "unpaired"}, "teacher": {"schedule": SCHEDULE, "pool_size": 0}},
    "pix2pix": {"teacher": {"schedule": SCHEDULE}},
    "unet": {
        "generator": {"family": "unet", "n_downs": 5},
        "teacher": {"schedule": SCHEDULE},
        "data": {"image_size": [64, 64]},
    },
    "gaugan": {**GAUGAN, "teacher": {**GAUGAN["teacher"], "schedule": SCHEDULE}},
    "supernet": {
        "distillation": {f"lambda_{name}": 1 for name in LOSSES},
        "supernet": {"schedule": SCHEDULE},
    },
    "sandwich": {"supernet": {"schedule": SCHEDULE}},
}
MODULES = {"cyclegan": CycleGanModule, "pix2pix": Pix2PixModule, "unet": Pix2PixModule, "gaugan": GauGanModule}
kinds = pytest.mark.parametrize("kind", SECTIONS)


@pytest.fixture(autouse=True)
def _exact():
    """Without TF32, whose 10 bits would hide an error."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def new_run(kind, **acceleration):
    sections = SECTIONS[kind]
    family = sections.get("generator", {}).get("family", "resnet")
    space = write_space(Path(f"{family}.json"), labels=FAMILIES[family].spaces[0])
    return Run(recipe(str(space), acceleration=acceleration, **sections))


def new_module(kind, run):
    """Weights that the seed decides, three times as large as usual, so that gradients are far from rounding."""
    torch.manual_seed(0)
    samples = [run.space.largest(), run.space.smallest()]
    if kind in ("supernet", "sandwich"):
        teacher = run.teacher_config.build(list(run.teacher_widths.values()))
        module = DistillationModule(run.recipe, run.recipe.supernet.schedule, teacher, student_channels(run), None)
        module.set_model(make_supernet(run.new_space()))
        activate(module.model, run.space.smallest())
        if kind == "sandwich":
            module.training_step = lambda batch, batch_idx: module.learn(batch, samples, follow_first=True)
    else:
        module = MODULES[kind](run.recipe, None)
    for network in (*module.generator_modules(), *module.discriminator_modules()):
        for parameter in network.parameters():
            parameter.data *= 3
    return module


def train(kind, accelerator, batches=4, rate=None, **acceleration):
    """The last losses, the gradients before the last step of each side, and the module."""
    run = new_run(kind, **acceleration)
    module, gradients = new_module(kind, run), {}
    if rate is not None:
        module.schedule = module.schedule.model_copy(update={"learning_rate": rate})

    def keep(optimizer):
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in module.named_parameters():
            if id(parameter) in own and parameter.ndim > 1 and parameter.grad is not None:
                gradients[name] = parameter.grad.detach().float().cpu()

    module.on_before_optimizer_step = keep
    trainer = Trainer(
        max_epochs=1,
        accelerator=accelerator,
        devices=1,
        precision=PRECISIONS[run.recipe.acceleration.precision],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train_set = run.data.train
    shown = [train_set[number] for number in range(2 * batches)]
    with FasterKernels():
        trainer.fit(module, DataLoader(shown, batch_size=2), DataLoader([each.source for each in shown[:1]]))
    losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert len(losses) >= 3
    return losses, gradients, module


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    """What the CPU finds, in fp32; once for each kind."""
    found, folder = {}, tmp_path_factory.mktemp("cpu")

    def of(kind):
        if kind not in found:
            with contextlib.chdir(folder):
                found[kind] = train(kind, "cpu")[:2]
        return found[kind]

    return of


def distance(gradients, expected):
    """How far all gradients together are off, in units of the norm of those expected."""
    assert gradients.keys() == expected.keys()
    off = sum(float((gradients[name] - goal).square().sum()) for name, goal in expected.items())
    return (off / sum(float(goal.square().sum()) for goal in expected.values())) ** 0.5


@kinds
@pytest.mark.parametrize(
    "acceleration",
    [{}, {"channels_last": True}, {"fused_adam": False}, {"gradient_checkpointing": True}],
    ids=["plain", "channels_last", "plain Adam", "checkpointed"],
)
def test_losses_and_gradients_are_those_of_the_cpu(tmp_path, monkeypatch, on_cpu, kind, acceleration):
    if kind == "unet" and "gradient_checkpointing" in acceleration:
        pytest.skip("a U-Net has no residual blocks")
    expected_losses, expected = on_cpu(kind)
    monkeypatch.chdir(tmp_path)
    losses, gradients, module = train(kind, "gpu", **acceleration)
    assert losses == pytest.approx(expected_losses, rel=1e-3, abs=1e-5)
    assert distance(gradients, expected) < 1e-2
    networks = (*module.generator_modules(), *module.discriminator_modules(), *module.frozen())
    assert len(networks) >= 2
    if acceleration.get("channels_last"):
        wide = [weight for network in networks for weight in network.parameters() if weight.ndim == 4]
        assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in wide)


@kinds
def test_bf16_rounds_losses_and_gradients(tmp_path, monkeypatch, on_cpu, kind):
    expected_losses, expected = on_cpu(kind)
    monkeypatch.chdir(tmp_path)
    losses, gradients, _ = train(kind, "gpu", precision="bf16", channels_last=True)
    assert losses == pytest.approx(expected_losses, rel=0.1, abs=0.05)
    assert 1e-4 < distance(gradients, expected) < 0.5


@kinds
def test_fp16_learns_with_finite_weights_of_fp32(tmp_path, monkeypatch, on_cpu, kind):
    """The first steps may be left out while the scale of the losses is found."""
    expected_losses, _ = on_cpu(kind)
    monkeypatch.chdir(tmp_path)
    before = {name: value.clone() for name, value in new_module(kind, new_run(kind)).state_dict().items()}
    losses, _, module = train(kind, "gpu", batches=16, rate=1e-6, precision="fp16")
    assert losses.keys() == expected_losses.keys()
    assert all(math.isfinite(value) for value in losses.values())
    after = {name: value.cpu() for name, value in module.state_dict().items()}
    assert all(value.isfinite().all() and value.dtype == before[name].dtype for name, value in after.items())
    for networks in ("generator", "discriminator"):
        trained = {name for name in after if networks in name or (networks == "generator" and "_model" in name)}
        assert any(not torch.equal(after[name], before[name]) for name in trained), networks


@pytest.mark.filterwarnings("default")  # torch.compile's own
def test_a_compiled_network_computes_and_learns_the_same():
    torch.manual_seed(0)
    plain = PatchDiscriminator(3, width=4, n_layers=1).to("cuda")
    compiled = copy.deepcopy(plain)
    accelerate(compiled, AccelerationRecipe(compile=True))
    x = torch.rand(2, 3, 16, 16, device="cuda")
    outputs = [network(x) for network in (plain, compiled)]
    for output in outputs:
        output.square().mean().backward()
    assert compiled._compiled_call_impl is not None
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    expected = dict(plain.named_parameters())
    for name, parameter in compiled.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@kinds
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_waits_for_nothing(tmp_path, monkeypatch, kind, precision):
    monkeypatch.chdir(tmp_path)
    run, losses = new_run(kind), {}
    module = new_module(kind, run).to("cuda")
    for network in module.networks():
        accelerate(network.to("cuda"), run.recipe.acceleration)
    module.to("cuda")
    monkeypatch.setattr(module, "optimizers", lambda: (None, None))
    monkeypatch.setattr(module, "toggled_optimizer", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(module, "minimise", lambda _, found, *turn: losses.update(found))
    train_set = run.data.train
    batch = Batch(*(each.to("cuda") for each in default_collate([train_set[0], train_set[1]])[:2]))
    with FasterKernels(), torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        module.training_step(batch, 1)  # libraries wait when they are first used
        torch.cuda.set_sync_debug_mode("error")
        try:
            module.training_step(batch, 1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(losses) >= 3
    assert all(loss.is_cuda and loss.isfinite() for loss in losses.values())
