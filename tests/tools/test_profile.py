import json

import pytest
import torch
import yaml
from tiny import SIZE, settings, write_space

from ganc_nni.core.errors import InputError
from ganc_nni.cost.macs import count
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.tools.profile import profile_file, profile_recipe, profile_space

FIGURES = {
    "16_16_24_16_32_64_16_24": (2_640_576_512, 1_938_948_096, 355_235),
    "32_32_48_32_48_48_16_16": (4_993_843_200, None, 822_051),
}


@pytest.fixture
def space(tmp_path):
    return write_space(tmp_path / "space.json", (16, 24, 32, 48, 64))


@pytest.fixture
def recipe_file(tmp_path, monkeypatch):
    def write(**sections):
        write_space(tmp_path / "tiny.json")
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "tiny.recipe.yml"
        path.write_text(yaml.safe_dump(settings("tiny.json", **sections)))
        return path

    return write


@pytest.mark.parametrize("config", FIGURES)
def test_published_figures_of_a_space(space, config):
    (profile,) = profile_space(space, config, (256, 256)).values()
    published, true, params = FIGURES[config]
    assert (profile.macs_published, profile.params) == (published, params)
    assert true in (None, profile.macs_true)
    assert profile.weights_bytes == 4 * params
    assert profile.config_str == config


@pytest.mark.parametrize("config", FIGURES)
@pytest.mark.parametrize("half", [False, True])
def test_a_file_costs_what_its_architecture_costs(tmp_path, space, config, half):
    network = ResnetGenerator([int(width) for width in config.split("_")], separable=True)
    torch.save((network.half() if half else network).state_dict(), tmp_path / "g.pth")
    (expected,) = profile_space(space, config, (64, 96)).values()
    found = profile_file(tmp_path / "g.pth", None, (64, 96))
    assert found == expected.model_copy(update={"weights_bytes": expected.weights_bytes // (2 if half else 1)})


def test_a_sub_generator_of_a_file(tmp_path, space):
    torch.save(ResnetGenerator([64] * 8, separable=True).state_dict(), tmp_path / "supernet.pth")
    config = "16_16_24_16_32_64_16_24"
    (expected,) = profile_space(space, config, (256, 256)).values()
    assert profile_file(tmp_path / "supernet.pth", config, (256, 256)) == expected


def test_a_space_reaches_from_its_smallest_to_its_largest(space):
    profiles = profile_space(space, None, (256, 256))
    assert [profile.config_str for profile in profiles.values()] == ["_".join(8 * [w]) for w in ("64", "16")]
    assert next(iter(profiles.values())).params == 1_987_075


def test_a_recipe_decides_channels_depth_and_size(recipe_file):
    path = recipe_file(data={"layout": "paired", "source_channels": 1, "image_size": [32, 48]})
    profiles = profile_recipe(path, None)
    assert list(profiles) == ["teacher", "largest student", "smallest student"]
    run = Run(load_recipe(path))
    for profile, cost in zip(
        profiles.values(),
        [run.teacher_cost, run.student_cost.at(run.space.largest()), run.student_cost.at(run.space.smallest())],
        strict=True,
    ):
        assert (profile.macs_published, profile.macs_true, profile.params) == (
            cost.macs_published,
            cost.macs_true,
            cost.params,
        )
        assert (profile.in_channels, profile.n_blocks, profile.image_size) == (1, 3, (32, 48))
    assert not profiles["teacher"].separable
    assert profiles["largest student"].separable
    (one,) = profile_recipe(path, "4_8_4_8_4_8_4_8").values()
    assert one.config_str == "4_8_4_8_4_8_4_8"
    larger = profile_recipe(path, "4_8_4_8_4_8_4_8", (64, 96))["student"]
    assert larger.macs_published == 4 * one.macs_published
    json.dumps(one.model_dump())


def test_a_recipe_s_checkpoint_is_its_teacher(recipe_file, tmp_path):
    torch.save(ResnetGenerator([12] * 8, n_blocks=6, separable=True).state_dict(), tmp_path / "t.pth")
    teacher = {"checkpoint": str(tmp_path / "t.pth")}
    sections = settings("tiny.json")
    path = recipe_file()
    path.write_text(yaml.safe_dump({**sections, "teacher": teacher}))
    profile = profile_recipe(path, None)["teacher"]
    cost = count(ResnetGenerator([12] * 8, n_blocks=6, separable=True), 3, SIZE)
    assert (profile.n_blocks, profile.separable, profile.params) == (6, True, cost.params)


@pytest.mark.parametrize("size", [(255, 256), (4, 256), (-4, 8), (0, 0)])
def test_sizes_that_no_generator_takes_are_refused(space, size):
    with pytest.raises(InputError, match=r"--size: .* multiples of 4, 8 or more"):
        profile_space(space, None, size)


def test_widths_outside_the_space_are_refused(space):
    with pytest.raises(InputError, match=r"down_1=17 \(choices: 16, 24, 32, 48, 64\); up_1=8 \("):
        profile_space(space, "16_17_24_16_32_64_16_8", (256, 256))
