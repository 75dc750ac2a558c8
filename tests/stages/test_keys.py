"""Keys of finished runs, which later versions keep: another key trains anew what users have, an old one reuses it."""

import numpy as np
import pytest
from PIL import Image
from tiny import write_space

from ganc_nni.generators import spade
from ganc_nni.recipe import Recipe
from ganc_nni.recipe.fields import Influence, influence_of, section_of
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import STAGES, Pipeline

DRAWN = {
    "data": {"layout": "paired", "procedural_images": 220, "image_size": [64, 64], "cache": True},
    "teacher": {"width": 16, "n_blocks": 6, "schedule": {"epochs": 5, "decay_epochs": 3, "batch_size": 4}},
    "student": {"space": "space.json", "n_blocks": 6},
    "metric": {"name": "frechet_random"},
    "search": {"budget": 14.0e6, "evaluations": 10, "population": 4, "sample_size": 2, "repeats": 2},
}
FILES = {
    "seed": 3,
    "data": {
        "layout": "labels",
        "root": "data",
        "classes": 4,
        "void_id": 255,
        "remap": {7: 255},
        "instances": True,
        "image_size": [64, 64],
        "search_list": "held_out.txt",
    },
    "generator": {"family": "spade", "upsampling": "normal"},
    "teacher": {"checkpoint": "teacher.pth", "discriminator": "judge.pth", "views": 2},
    "student": {"space": "spade.json"},
    "distillation": {"lambda_style": 1, "perceptual_weights": "vgg.pth"},
    "pretrain": {"epochs": 2, "decay_epochs": 0, "widths": [4] * 8},
    "metric": {"name": "miou"},
    "segmenter": {"classes": {0: 1, 1: 0}, "n_classes": 2, "epochs": 2},
    "search": {"budget": {"params": 1e6, "macs_true": 1e9}, "strategy": "elitist", "settings": {"parents": 4}},
}
RECONSTRUCTED = {**FILES, "search": {"budget": 1e9, "weights": "reconstructed", "precision": "bf16"}}

KEYS = [
    (
        DRAWN,
        {
            "teacher": "0d90b8d33ddfd6af",
            "supernet": "3bf0a0594e415268",
            "search": "cc59bb5af92bbd7b",
            "finetune": "ade087accdece6f7",
            "export": "6ec8596d52950f41",
            "scores": "451ff724802954e3",
        },
    ),
    (
        FILES,
        {
            "segmenter": "7419ace68a59001e",
            "teacher": "ab43bb159453bdd5",
            "pretrain": "e579cff351e6e0bd",
            "supernet": "51e9028296e6d24c",
            "search": "723f9eb566e542ae",
            "finetune": "42e71ea58f2f6a15",
            "export": "b34265ede0e7a23b",
            "scores": "0e3c24d171bc3770",
        },
    ),
    (
        RECONSTRUCTED,
        {
            "segmenter": "7419ace68a59001e",
            "teacher": "ab43bb159453bdd5",
            "pretrain": "e579cff351e6e0bd",
            "search": "c5d3efb7cb9a8df2",
            "finetune": "eb0326addbbe553f",
            "export": "08bb2d01c0fba820",
            "scores": "5fae2a562cd7e900",
        },
    ),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with all files that the recipes name."""
    monkeypatch.chdir(tmp_path)
    write_space(tmp_path / "space.json")
    write_space(tmp_path / "spade.json", labels=spade.LABELS)
    for name in ("teacher.pth", "judge.pth", "vgg.pth"):
        (tmp_path / name).write_text(name)
    for seed, folder in enumerate(f"{part}_{kind}" for part in ("train", "test") for kind in ("label", "img", "inst")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number in range(4):
            shape = (8, 16, 3) if folder.endswith("img") else (8, 16)
            pixels = (np.arange(np.prod(shape)).reshape(shape) * (seed + number + 1) % 4).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{number}.bmp")  # no compression to differ
    (tmp_path / "held_out.txt").write_text("1.bmp\n3.bmp\n")


def keys(content):
    """The first digits of all keys of a recipe, and of what its folder ``search`` belongs to."""
    made = Pipeline(Run(Recipe.model_validate({"name": "run", **content})))
    found = {stage: made.key(stage) for stage in made.stages("export")}
    return {stage: key[:16] for stage, key in {**found, "scores": made._folder_key("search")}.items()}


@pytest.mark.parametrize(("recipe", "expected"), KEYS, ids=["drawn", "files", "reconstructed"])
def test_finished_runs_are_not_made_anew(place, recipe, expected):
    assert keys(recipe) == expected


def of_all_sections(section, prefix=""):
    for name, field in section.model_fields.items():
        if (nested := section_of(field.annotation)) is not None:
            yield from of_all_sections(nested, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", influence_of(field)


def test_every_key_is_read_by_a_stage_or_says_that_it_changes_no_result():
    recipe = Recipe.model_validate({"name": "run", **FILES})
    named = {name for stage in STAGES.values() for name in (*stage.reads.keys, *stage.reads.more(recipe))}
    for key, influence in of_all_sections(Recipe):
        if influence in (Influence.NONE, Influence.NAMED):
            assert (key in named) == (influence is Influence.NAMED), key
        else:
            assert named & {key, key.partition(".")[0]}, key
