"""benchmarks/ablation.py: its variants differ as their names say, at equal MACs; rows are kept."""

import itertools
from pathlib import Path

import pytest
import torch

from ganc_nni.core.io import save_weights
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.losses.discriminators import build_discriminator
from ganc_nni.recipe import DiscriminatorRecipe

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 8
OPTIONS = ["--device", "cpu", "--size", "32", "32", "--images", "64", "--batch", "16", "--steps", "8", "--seeds", "1"]
OPTIONS += ["--discriminator-width", "4", "--blocks", "3"]


@pytest.fixture
def script(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("GANC_RUNS", str(tmp_path / "runs"))
    import ablation

    monkeypatch.setattr(ablation, "quiet", lambda: None)  # it silences the whole process
    return ablation


@pytest.fixture
def options(tmp_path):
    """A teacher with random weights and the discriminator that it was trained with, as a run leaves them."""
    torch.manual_seed(3)
    teacher = ResnetGenerator([WIDTH] * 8, n_blocks=3)
    discriminator = build_discriminator(DiscriminatorRecipe(width=4, n_layers=2), 3)
    folder = tmp_path / "teacher"
    for network in (teacher, discriminator):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, 0, 0.1)
    save_weights(folder / "teacher.safetensors", teacher.state_dict())
    helpers = {f"discriminator.{name}": value for name, value in discriminator.state_dict().items()}
    save_weights(folder / "helpers.safetensors", helpers)
    return [*OPTIONS, "--teacher", str(folder / "teacher.safetensors"), "--out", str(tmp_path / "out")]


def kernels(network):
    """Each kernel of the first convolution, flattened."""
    return network.model[1].weight.detach().flatten(1)


def test_variants_start_as_their_names_say_and_cost_the_same(script, options):
    study = script.Ablation(script.parser().parse_args(options))
    taught = study.teacher
    inherited = study.run.teacher_discriminator_file.network().state_dict()
    x = torch.rand(4, 3, 32, 32) * 2 - 1
    outputs = {}
    for name, variant in script.VARIANTS.items():
        run = study.seeded(variant, 0)
        module, network = study.start(variant, run)
        judged = module.discriminator.state_dict()
        assert all(torch.equal(judged[key], inherited[key]) for key in inherited) == variant.discriminator, name
        assert variant.discriminator == ("D" in name or "both" in name)
        if variant.sandwich:
            network = script.make_supernet(network)
            study.fill(run, network, module)
            network = network.freeze(dict(run.space.smallest()))
        from_teacher = torch.cdist(kernels(network), kernels(taught)).amin(1).max()
        if not variant.reconstruction:
            assert (from_teacher < 1e-6) == (variant.generator or variant.pruned), name
        assert variant.generator == ("G" in name or "both" in name)
        macs = study.macs_of(network)
        assert 0.85 * study.macs < macs <= study.macs if variant.pruned else macs == study.macs, name
        with torch.inference_mode():
            outputs[name] = network.eval()(x)
    scratch, inherited_g, inherited_d, both, sandwich, reconstructed, pruned = outputs.values()
    assert torch.equal(scratch, inherited_d)
    assert torch.equal(inherited_g, both)
    assert torch.allclose(both, sandwich, atol=1e-5)
    for one, other in itertools.combinations((scratch, both, reconstructed, pruned), 2):
        assert not torch.allclose(one, other, atol=1e-3)


def test_rows_are_kept_and_make_one_table(script, options, monkeypatch, capsys):
    names = ["both + sandwich", "pruned teacher, inherit D"]
    arguments = ["ablation.py", *options, "--variants", *names]
    monkeypatch.setattr("sys.argv", arguments)
    script.main()
    first = capsys.readouterr().out
    assert [line.partition(":")[0] for line in first.splitlines()[:2]] == ["1/2", "2/2"]
    rows = [line.split(" | ") for line in first.splitlines() if line.startswith(("| both", "| pruned"))]
    assert [row[0].removeprefix("| ") for row in rows] == names
    assert rows[0][-2] == rows[1][-2], "equal steps"
    script.main()
    again = capsys.readouterr().out
    assert again.strip() in first, "nothing is trained twice"


def test_spread(script):
    assert script.spread([1, 2, 3]) == "2.000 ± 1.000"
    assert script.spread([1.5], 0) == "2"
    assert script.spread([]) == ""
