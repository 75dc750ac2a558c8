import json
from pathlib import Path

import pytest
import torch
import torchvision.transforms.functional as transforms
from torch import Tensor, nn
from torchvision import models

from ganc_nni.core.downloads import file_sha256
from ganc_nni.core.errors import InputError
from ganc_nni.core.io import save_weights
from ganc_nni.metrics.segmenters import NETWORKS, Segmenter, build_segmenter, new_network
from ganc_nni.metrics.segmenters.segmenters import SegmentationNetwork, describe

SMALL = "lraspp_mobilenet_v3_large"
PUBLISHED = {"drn_d_105": 19, "deeplab_v2_resnet101": 182}


def images(count: int = 2, height: int = 32, width: int = 40) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def hollow(name: str, classes: int, **options) -> dict[str, Tensor]:
    """A state dict of the right keys and shapes that takes no memory: every tensor is one number, repeated."""
    with torch.device("meta"):
        network = (
            NETWORKS[name].make(classes) if not options else models.get_model(name, num_classes=classes, **options)
        )
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[SegmentationNetwork, Path]:
    """A small network, and the file of its weights that knows what it is."""
    torch.manual_seed(0)
    network = new_network(SMALL, 4).eval()
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, network.network.state_dict(), describe(SMALL, 4))
    return network, path


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_table_can_be_built(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(hollow(name, 5), path)
    segmenter = build_segmenter(name, 5, path)
    logits = segmenter(images(1, 36, 44))

    assert logits.shape == (1, 5, 36, 44)
    assert logits.dtype == torch.float32
    assert (segmenter.name, segmenter.classes) == (name, 5)
    assert segmenter.weights_sha256 == file_sha256(path)
    assert segmenter.resizes == ("images" if name == "deeplab_v2_resnet101" else "logits")


def test_the_table_has_all_of_torchvision() -> None:
    assert set(NETWORKS) == {*PUBLISHED, *models.list_models(module=models.segmentation)}


@pytest.mark.parametrize(("name", "classes"), PUBLISHED.items())
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_files_load_as_they_are(name: str, classes: int, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    state = {f"{prefix}{key}": value for key, value in hollow(name, classes).items() if "num_batches" not in key}
    torch.save(state, path, _use_new_zipfile_serialization=False)  # the format of their time

    segmenter = build_segmenter(name, weights=path)

    assert segmenter.classes == classes
    assert not any(value.is_meta for value in segmenter.state_dict().values())


def test_torchvisions_own_files_load_with_their_second_head(tmp_path: Path) -> None:
    path = tmp_path / "fcn.pth"
    state = hollow("fcn_resnet50", 21, weights=None, weights_backbone=None, aux_loss=True)
    assert any(key.startswith("aux_classifier.") for key in state)
    torch.save(state, path)

    assert build_segmenter("fcn_resnet50", 21, path).classes == 21


def test_the_file_says_what_it_is(trained) -> None:
    network, path = trained
    segmenter = build_segmenter(weights=path)

    assert (segmenter.name, segmenter.classes) == (SMALL, 4)
    assert torch.equal(segmenter(images()), network(images()))
    assert build_segmenter(SMALL, 4, path).weights_sha256 == segmenter.weights_sha256


def test_torchvisions_network_sees_normalised_images(trained) -> None:
    network, path = trained
    reference = network.network
    inputs = transforms.normalize((images() + 1) / 2, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])

    expected = reference(inputs)["out"]
    assert torch.allclose(build_segmenter(weights=path)(images()), expected, atol=1e-5)


def test_drn_sees_normalised_rgb() -> None:
    kind = NETWORKS["drn_d_105"]
    expected = transforms.normalize((images() + 1) / 2, list(kind.mean), list(kind.std))

    assert torch.allclose(SegmentationNetwork(kind, nn.Identity())(images()), expected, atol=1e-6)
    assert kind.mean == pytest.approx((0.2901, 0.3281, 0.2870), abs=1e-4)


def test_deeplab_sees_bgr_minus_caffes_means() -> None:
    pixels = torch.randint(256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    expected = pixels[:, [2, 1, 0]] - torch.tensor([104.008, 116.669, 122.675]).reshape(3, 1, 1)

    found = SegmentationNetwork(NETWORKS["deeplab_v2_resnet101"], nn.Identity())(pixels / 127.5 - 1)
    assert torch.allclose(found, expected, atol=1e-3)


def test_half_precision_files_make_float32(trained, tmp_path: Path) -> None:
    _, path = trained
    half = {key: value.half() if value.is_floating_point() else value for key, value in _state(path).items()}
    save_weights(tmp_path / "half.safetensors", half, describe(SMALL, 4))

    segmenter = build_segmenter(weights=tmp_path / "half.safetensors")
    assert {value.dtype for value in segmenter.parameters()} == {torch.float32}


def test_segmenters_stay_frozen_and_in_float32(trained) -> None:
    segmenter = build_segmenter(weights=trained[1])
    batch = images().requires_grad_()
    nn.Sequential(segmenter).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = segmenter(batch)

    assert not segmenter.training
    assert not any(module.training for module in segmenter.modules())
    assert not any(value.requires_grad for value in segmenter.parameters())
    assert not logits.requires_grad
    assert torch.equal(logits, segmenter(batch.double()))


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_other_images_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match="expected floats, N x 3 x H x W"):
        Segmenter(nn.Identity(), "none", 3)(images)


def test_making_a_segmenter_leaves_global_randomness_alone(trained) -> None:
    before = torch.random.get_rng_state()
    build_segmenter(weights=trained[1])

    assert torch.equal(before, torch.random.get_rng_state())


def test_unknown_names_list_the_valid_ones(trained) -> None:
    for make in (lambda: new_network("unet", 3), lambda: build_segmenter("unet", 3), lambda: build_segmenter("unet")):
        with pytest.raises(InputError, match=r"'unet'; valid: drn_d_105, deeplab_v2_resnet101, .*lraspp"):
            make()


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_file_the_error_says_where_one_is(name: str) -> None:
    with pytest.raises(InputError, match=r"no weights file is given; expected one: .*(\.pth|train-segmenter)"):
        build_segmenter(name, 19)


def _state(path: Path) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in build_segmenter(weights=path).network.network.state_dict().items()}


def test_files_that_do_not_fit_are_named(trained, tmp_path: Path) -> None:
    _, good = trained
    path = tmp_path / "wrong.safetensors"
    key = "classifier.high_classifier.bias"
    cases = [
        (lambda state: state.pop(key), f"key {key} is missing; expected it with shape .4,., as {SMALL} for 4"),
        (lambda state: state.update({key: torch.zeros(7)}), rf"{key} has shape \(7,\); expected \(4,\)"),
        (lambda state: state.update(more=torch.zeros(2)), "key more of shape .* is not in"),
    ]
    for change, message in cases:
        state = _state(good)
        change(state)
        save_weights(path, state)
        with pytest.raises(InputError, match=f"^{path}: {message}") as error:
            build_segmenter(SMALL, 4, path)
        assert "\n" not in str(error.value)

    save_weights(path, {f"module.{name}": value for name, value in _state(good).items() if name != key})
    with pytest.raises(InputError, match=f"key module.{key} is missing"):
        build_segmenter(SMALL, 4, path)


def test_what_is_asked_for_must_be_what_the_file_is(trained, tmp_path: Path) -> None:
    _, good = trained
    anonymous = tmp_path / "anonymous.pth"
    save_weights(anonymous, _state(good))
    with pytest.raises(InputError, match=f"holds a segmenter of name {SMALL}, asked for is drn_d_105"):
        build_segmenter("drn_d_105", 4, good)
    with pytest.raises(InputError, match="holds a segmenter of classes 4, asked for is 5"):
        build_segmenter(SMALL, 5, good)
    with pytest.raises(InputError, match="does not say which network it is; name one of drn_d_105"):
        build_segmenter(weights=anonymous)
    with pytest.raises(InputError, match="does not say how many classes"):
        build_segmenter(SMALL, weights=anonymous)
    with pytest.raises(InputError, match=r"has shape \(4, .*; expected \(5, .*, as .* for 5 classes has it"):
        build_segmenter(SMALL, 5, anonymous)
    with pytest.raises(InputError, match="no such file"):
        build_segmenter(SMALL, 4, tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[1]",
        json.dumps({"name": SMALL}),
        json.dumps({"name": 1, "classes": "x"}),
        json.dumps({"name": SMALL, "classes": True}),
        json.dumps({"name": SMALL, "classes": "4"}),
    ],
)
def test_damaged_metadata_are_named(trained, tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.safetensors"
    save_weights(path, _state(trained[1]), {"segmenter": text})

    with pytest.raises(InputError, match=r"metadata segmenter: got .*; expected JSON of name and classes"):
        build_segmenter(weights=path)


def test_one_class_is_too_few() -> None:
    with pytest.raises(InputError, match="got 1 classes; expected 2 or more"):
        new_network(SMALL, 1)
