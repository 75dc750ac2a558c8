import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ganc_nni.core.errors import InputError
from ganc_nni.data import boundaries
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.interop import read_generator
from ganc_nni.tools.translate import translate_folder

CPU = torch.device("cpu")


def generator_file(folder, **options):
    torch.manual_seed(1)
    network = ResnetGenerator([4] * 8, n_blocks=3, **options)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.2)
    torch.save(network.state_dict(), folder / "generator.pth")
    return read_generator(folder / "generator.pth")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(folder, **images):
    """Images by name, of (height, width)."""
    folder.mkdir(exist_ok=True)
    for seed, (name, size) in enumerate(images.items()):
        Image.fromarray(noise(*size, seed)).save(folder / f"{name}.png")
    return folder


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def expected(file, path):
    """What the network makes of an image that is padded by reflection at right and bottom."""
    pixels = torch.from_numpy(np.array(opened(path))).permute(2, 0, 1)[None]
    height, width = pixels.shape[-2:]
    padded = F.pad(pixels / 127.5 - 1, (0, -width % 4, 0, -height % 4), mode="reflect")
    with torch.inference_mode():
        output = file.network()(padded)[0, :, :height, :width]
    return ((output + 1) * 127.5).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_every_image_at_its_own_size(tmp_path, batch_size):
    file = generator_file(tmp_path)
    sizes = {"a": (32, 32), "b": (32, 32), "c": (32, 32), "d": (33, 30), "e": (31, 32), "f": (32, 32), "g": (5, 61)}
    source = save(tmp_path / "in", **sizes)
    assert translate_folder(file, source, tmp_path / "out" / "deep", batch_size, CPU) == 7
    found = {path.stem: np.array(opened(path)) for path in (tmp_path / "out" / "deep").iterdir()}
    assert {name: image.shape for name, image in found.items()} == {n: (*size, 3) for n, size in sizes.items()}
    for name, image in found.items():
        assert np.abs(image - expected(file, source / f"{name}.png")).max() <= 0.51
        assert image.std() > 1


def test_jpeg_in_png_out(tmp_path):
    source = save(tmp_path / "in", a=(32, 32))
    Image.fromarray(noise(32, 32)).save(source / "b.JPG")
    (source / "notes.txt").write_text("no image")
    translate_folder(generator_file(tmp_path), source, tmp_path / "out", 1, CPU)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize(("channels", "mode"), [((1, 3), "RGB"), ((3, 1), "L"), ((1, 1), "L")])
def test_grey(tmp_path, channels, mode):
    file = generator_file(tmp_path, in_channels=channels[0], out_channels=channels[1])
    translate_folder(file, save(tmp_path / "in", a=(32, 28)), tmp_path / "out", 1, CPU)
    image = opened(tmp_path / "out" / "a.png")
    assert (image.mode, image.size) == (mode, (28, 32))


def test_a_sub_generator_of_a_supernet_file(tmp_path):
    file = generator_file(tmp_path)
    wide = ResnetGenerator([8] * 8, n_blocks=3).state_dict()
    for key, value in file.weights.items():
        wide[key][tuple(slice(side) for side in value.shape)] = value
    torch.save(wide, tmp_path / "supernet.pth")
    source = save(tmp_path / "in", a=(32, 32))
    translate_folder(file, source, tmp_path / "one", 1, CPU)
    sub = read_generator(tmp_path / "supernet.pth", "4_4_4_4_4_4_4_4")
    translate_folder(sub, source, tmp_path / "two", 1, CPU)
    assert (tmp_path / "one" / "a.png").read_bytes() == (tmp_path / "two" / "a.png").read_bytes()


def test_a_bad_image_costs_no_other(tmp_path):
    source = save(tmp_path / "in", a=(32, 32), b=(32, 32), c=(4, 32), d=(32, 32), e=(32, 32))
    whole = (source / "b.png").read_bytes()
    (source / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError) as error:
        translate_folder(generator_file(tmp_path), source, tmp_path / "out", 2, CPU)
    message = str(error.value)
    assert "2 images failed, 3 are in " in message
    assert "b.png: cannot be read as an image" in message
    assert "c.png: is 32x4 pixels; expected 5 or more a side" in message
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "d.png", "e.png"]


def test_a_killed_run_leaves_whole_images(tmp_path, monkeypatch):
    source = save(tmp_path / "in", a=(32, 32), b=(32, 32), c=(32, 32))
    save_whole, done = Image.Image.save, []

    def interrupted(image, path, *rest):
        if done:
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt
        done.append(path)
        save_whole(image, path, *rest)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        translate_folder(generator_file(tmp_path), source, tmp_path / "out", 1, CPU)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    opened(tmp_path / "out" / "a.png")


def test_what_cannot_work_is_refused_before_any_image(tmp_path):
    source = save(tmp_path / "in", a=(32, 32))
    file = generator_file(tmp_path)
    (tmp_path / "file").write_text("")
    refused = [
        (file, tmp_path / "nowhere", "nowhere: no such folder"),
        (file, tmp_path / "file", "file: is a file; expected a folder"),
        (
            generator_file(tmp_path, in_channels=2),
            source,
            "generator.pth: reads 2 channels and makes 3; expected 1 or 3",
        ),
    ]
    for generator, folder, told in refused:
        with pytest.raises(InputError, match=told):
            translate_folder(generator, folder, tmp_path / "out", 1, CPU)
    (tmp_path / "link").symlink_to("nothing")
    outputs = {"file": "is a file; expected a folder", "link": "leads nowhere", source.name: "is the input folder too"}
    for target, told in ((tmp_path / name, told) for name, told in outputs.items()):
        with pytest.raises(InputError, match=told):
            translate_folder(file, source, target, 1, CPU)
    Image.fromarray(noise(8, 8)).save(source / "a.jpg")
    with pytest.raises(InputError, match=r"a\.png and a\.jpg would both become a\.png"):
        translate_folder(file, source, tmp_path / "out", 1, CPU)
    assert not (tmp_path / "out").exists()


def spade_file(folder, in_channels):
    torch.manual_seed(3)
    network = SpadeGenerator([4] * 8, in_channels, upsampling="normal", separable=True)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.2)
    torch.save(network.state_dict(), folder / "spade.pth")
    return read_generator(folder / "spade.pth", upsampling="normal")


def save_ids(folder, most, **maps):
    """Files of ids by name, of (height, width)."""
    folder.mkdir()
    for seed, (name, size) in enumerate(maps.items()):
        Image.fromarray(np.random.default_rng(seed).integers(0, most, size, dtype=np.uint8)).save(
            folder / f"{name}.png"
        )
    return folder


@pytest.mark.parametrize("with_instances", [False, True])
def test_label_maps_become_images_of_their_size(tmp_path, with_instances):
    file = spade_file(tmp_path, 6)
    sizes = {"a": (64, 96), "b": (61, 40), "c": (64, 96)}
    classes = 5 if with_instances else 6
    labels = save_ids(tmp_path / "labels", classes, **sizes)
    instances = save_ids(tmp_path / "instances", 9, **sizes) if with_instances else None
    assert translate_folder(file, labels, tmp_path / "out", 2, CPU, instances) == 3
    for name, (height, width) in sizes.items():
        image = np.array(opened(tmp_path / "out" / f"{name}.png"))
        ids = torch.from_numpy(np.array(opened(labels / f"{name}.png"))).long()
        encoded = F.one_hot(ids, classes).permute(2, 0, 1).float()
        if instances is not None:
            edges = boundaries(torch.from_numpy(np.array(opened(instances / f"{name}.png"))))
            encoded = torch.cat([encoded, edges[None]])
        padded = F.pad(encoded[None], (0, -width % 32, 0, -height % 32), mode="replicate")
        with torch.inference_mode():
            output = file.network()(padded)[0, :, :height, :width]
        assert image.shape == (height, width, 3)
        assert np.abs(image - ((output + 1) * 127.5).permute(1, 2, 0).numpy()).max() <= 0.51


def test_void_is_the_last_class(tmp_path):
    file = spade_file(tmp_path, 6)
    labels = save_ids(tmp_path / "labels", 5, a=(64, 64), b=(64, 64))
    ids = np.array(opened(labels / "a.png"))
    for name, void in (("a", 255), ("b", 5)):
        changed = ids.copy()
        changed[:20] = void
        Image.fromarray(changed).save(labels / f"{name}.png")
    translate_folder(file, labels, tmp_path / "out", 1, CPU)
    assert (tmp_path / "out" / "a.png").read_bytes() == (tmp_path / "out" / "b.png").read_bytes()


@pytest.mark.parametrize(("with_instances", "told"), [(False, "5 classes, void"), (True, "4 classes, void")])
def test_which_reading_of_the_channels_is_taken_is_told_once(tmp_path, caplog, with_instances, told):
    caplog.set_level(logging.INFO, "ganc_nni")
    sizes = {"a": (32, 32), "b": (32, 32)}
    labels, instances = (save_ids(tmp_path / name, 4, **sizes) for name in ("labels", "instances"))
    translate_folder(spade_file(tmp_path, 6), labels, tmp_path / "out", 1, CPU, instances if with_instances else None)
    (message,) = caplog.messages
    assert f"spade.pth: its 6 channels are read as {told} (id {told[0]} or 255)" in message
    assert ("boundary" in message, "--instances" in message) == (True, not with_instances)


def test_cures_of_label_maps_can_be_followed_without_settings(tmp_path):
    labels = save_ids(tmp_path / "labels", 9, a=(32, 32))
    with pytest.raises(InputError, match=r"a.png: holds label id .*; correct the label map, or name") as error:
        translate_folder(spade_file(tmp_path, 4), labels, tmp_path / "out", 1, CPU)
    assert "recipe" not in str(error.value)
    with pytest.raises(InputError, match=r"reads 1 channels, which would be 0 classes besides void; expected 1 to 255"):
        translate_folder(spade_file(tmp_path, 1), labels, tmp_path / "out", 1, CPU)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pictures_are_translated_upright(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(20, 32)).save(tmp_path / "in" / f"a.{suffix}", exif=exif)
    translate_folder(generator_file(tmp_path), tmp_path / "in", tmp_path / "out", 1, CPU)
    assert opened(tmp_path / "out" / "a.png").size == (20, 32)


def test_bad_label_maps_cost_no_other(tmp_path):
    file = spade_file(tmp_path, 6)
    labels = save_ids(tmp_path / "labels", 5, a=(64, 64), b=(64, 64), c=(64, 64))
    instances = save_ids(tmp_path / "instances", 5, a=(64, 64), b=(32, 64))
    Image.fromarray(np.full((64, 64), 7, dtype=np.uint8)).save(labels / "d.png")
    with pytest.raises(InputError) as error:
        translate_folder(file, labels, tmp_path / "out", 1, CPU, instances)
    message = str(error.value)
    assert "3 images failed, 1 are in" in message
    assert "b.png: is (32, 64), its label map (64, 64); expected the same height and width" in message
    assert "c.png" in message
    assert re.search(r"d\.png: .*7", message)
    with pytest.raises(InputError, match="reads images, not label maps; leave --instances out"):
        translate_folder(generator_file(tmp_path), labels, tmp_path / "other", 1, CPU, instances)


def test_a_label_map_of_one_latent_pixel_is_made_larger(tmp_path):
    file = spade_file(tmp_path, 6)
    labels = save_ids(tmp_path / "labels", 5, small=(30, 32))
    assert translate_folder(file, labels, tmp_path / "out", 1, CPU) == 1
    assert opened(tmp_path / "out" / "small.png").size == (32, 30)
