"""The folder in which the commands of the documents run: every file that they name, tiny."""

import shutil

import numpy as np
import torch
import yaml
from PIL import Image
from public_unet import public_state
from tiny import SCHEDULE, settings, write_space

from ganc_nni.core.io import save_weights
from ganc_nni.export import Deployable, Interface, deploy
from ganc_nni.generators import spade
from ganc_nni.generators.resnet import ResnetConfig
from ganc_nni.generators.spade import SpadeConfig
from ganc_nni.interop import read_generator

IMAGES = {
    "photos/trainA": 20,
    "photos/trainB": 20,
    "photos/testA": 4,
    "photos/testB": 4,
    "testA": 3,
    "testB": 3,
    "fake": 3,
    "A": 2,
    "B": 2,
}
"""Folders of 32x32 images, and how many."""

LABELLED = {"streets/train": 24, "streets/test": 4}
"""Beginnings of folders of 64x64 label maps with their images, and how many."""

ADVERSARIAL = {**SCHEDULE, "decay_epochs": 0, "discriminator_learning_rate": 4e-4, "beta1": 0, "beta2": 0.9}
LOSSES = {"gan_loss": "hinge", "lambda_recon": 10, "lambda_feat": 10}
GAUGAN = {
    "teacher": {**LOSSES, "width": 4, "schedule": ADVERSARIAL},
    "discriminator": {"width": 4, "n_layers": 3, "n_scales": 2},
    "distillation": LOSSES,
    "supernet": {"schedule": ADVERSARIAL},
    "finetune": ADVERSARIAL,
    "segmenter": {"epochs": 1, "batch_size": 8},
    "metric": {"name": "miou", "min_images": 2, "calibration_images": 4},
    "search": {"budget": 60e6, "evaluations": 2, "population": 2, "sample_size": 2},
}


def make_place(folder, finished, root):
    """Fill the folder; ``finished`` holds a tiny run, ``root`` is the project's."""
    for name in ("experiments", "search_spaces", "benchmarks"):
        shutil.copytree(root / name, folder / name)
    for name in ("quickstart", "mine", "tiny"):
        shutil.copytree(finished / "runs" / "tiny", folder / "runs" / name)
    write_space(folder / "space.json")
    write_space(folder / "search_spaces" / "tiny_resnet.json")
    write_space(folder / "search_spaces" / "tiny_spade.json", labels=spade.LABELS)
    (folder / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json")))
    for name, count in IMAGES.items():
        _save(folder / name, [_noise(number) for number in range(count)])
    for part in ("train", "test"):
        _save(folder / "facades" / part, [_noise(number, (32, 64)) for number in range(20 if part == "train" else 4)])
    for name, count in LABELLED.items():
        _save(folder / f"{name}_label", [_ids(number) for number in range(count)])
        _save(folder / f"{name}_img", [_noise(number, (64, 64)) for number in range(count)])
    for name in ("label_ids", "instance_ids"):
        _save(folder / name, [_ids(number) for number in range(2)])
    _save_generators(folder)
    return folder


def shrink(path):
    """Keep a recipe's data, family, metric of label maps and checkpoint; make all else tiny."""
    recipe = yaml.safe_load(path.read_text())
    labelled = recipe["data"]["layout"] == "labels"
    family = "spade" if labelled else "resnet"
    sections = GAUGAN if labelled else {"metric": {"min_images": 2}}
    tiny = settings(f"search_spaces/tiny_{family}.json", **sections)
    sized = {key: value for key, value in recipe["data"].items() if key not in ("load_size", "workers")}
    tiny["data"] = {**sized, "image_size": [64, 64] if labelled else [32, 32], "search_fraction": 0.2}
    tiny["search"]["evaluations"] = 2
    if labelled:
        tiny["generator"] = recipe["generator"]
    if checkpoint := recipe.get("teacher", {}).get("checkpoint"):
        tiny["teacher"] = {**tiny["teacher"], "checkpoint": checkpoint}
    path.write_text(yaml.safe_dump(tiny))


def _noise(seed, size=(32, 32)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def _ids(seed):
    """Ids 0 to 10 in patches of 16x16 pixels."""
    patches = np.random.default_rng(seed).integers(0, 11, (4, 4), dtype=np.uint8)
    return Image.fromarray(patches.repeat(16, axis=0).repeat(16, axis=1))


def _save(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / f"{number}.png")


def _save_generators(folder):
    torch.manual_seed(0)
    teacher = ResnetConfig(in_channels=3, out_channels=3, n_blocks=9, separable=False).build([4] * 8)
    student = ResnetConfig(in_channels=3, out_channels=3, n_blocks=9, separable=True)
    gaugan = SpadeConfig(in_channels=12, out_channels=3, separable=True, upsampling="more").build([4] * 8)
    files = {
        "latest_net_G_A.pth": teacher,
        "teacher.safetensors": teacher,
        "gaugan.pth": gaugan,
        "runs/cyclegan/export/compressed.safetensors": student.build([4] * 8),
        "runs/cyclegan/supernet/supernet.safetensors": student.build([64] * 8),
    }
    for name, network in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_weights(folder / name, network.state_dict())
    torch.save(public_state(4, n_downs=8), folder / "latest_net_G.pth")
    file = read_generator(folder / "latest_net_G_A.pth")
    size = (256, 256)
    image = np.array(_noise(0, size))[None]
    deploy(
        Deployable(file.architecture(size), file.network(), Interface(size, as_bytes=True), [image]), ["onnx"], folder
    )
