import hashlib
import urllib.error
from pathlib import Path

import pytest
import pytorch_fid.inception
import torch
from safetensors.torch import save_file
from tiny import real_data
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ganc_nni.core.downloads import PublishedFile
from ganc_nni.core.errors import InputError
from ganc_nni.metrics import InceptionFeatures, inception

State = dict[str, Tensor]


def random_state(dims: int, seed: int = 0) -> State:
    """Weights that keep activations alive, for as much of Inception as ``dims`` needs."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in inception._needed(inception._network(dims, "fid")).items():
        noise = torch.randn(value.shape, generator=generator)
        fan_in = value[0].numel() if value.ndim == 4 else 1
        state[key] = noise * (2 / fan_in) ** 0.5 if value.ndim == 4 else noise * 0.1
        if key.endswith(("bn.weight", "running_var")):
            state[key] = 1 + state[key].clamp(-0.5, 0.5)
    return state


@pytest.fixture(scope="module")
def stem() -> State:
    return random_state(64)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(1)) * 2 - 1


def saved(path: Path, state: State) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def test_equals_pytorch_fid_on_the_same_weights(
    tmp_path: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = images[:1]
    state = random_state(2048)
    path = saved(tmp_path / "random.pth", state)
    complete = {**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    monkeypatch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: complete)
    reference = pytorch_fid.inception.InceptionV3(output_blocks=range(4)).eval()
    expected = [adaptive_avg_pool2d(block, 1).flatten(1) for block in reference(image / 2 + 0.5)]

    for dims, features in zip(inception.DIMS, expected, strict=True):
        extractor = InceptionFeatures(dims, path)

        found = extractor(image)

        assert found.shape == features.shape == (1, dims)
        assert features.std() > 0.01
        torch.testing.assert_close(found, features, atol=1e-3, rtol=1e-4)


def test_both_formats_and_half_precision_load(tmp_path: Path, stem: State, images: Tensor) -> None:
    torch_file = InceptionFeatures(64, saved(tmp_path / "a.pth", stem))
    safe_file = InceptionFeatures(64, saved(tmp_path / "a.safetensors", stem))
    half = InceptionFeatures(64, saved(tmp_path / "b.pth", {key: value.half() for key, value in stem.items()}))

    assert torch.equal(torch_file(images), safe_file(images))
    torch.testing.assert_close(half(images), safe_file(images), atol=1e-2, rtol=1e-2)
    assert half(images).dtype == torch.float32


def test_only_the_needed_blocks_are_built(tmp_path: Path, stem: State) -> None:
    extractor = InceptionFeatures(64, saved(tmp_path / "a.pth", stem))

    assert {name.split(".")[1] for name, _ in extractor.named_parameters()} == {
        "Conv2d_1a_3x3",
        "Conv2d_2a_3x3",
        "Conv2d_2b_3x3",
    }
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert not extractor.training


def test_a_score_on_other_weights_is_not_called_fid(
    tmp_path: Path, stem: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "mine.pth", stem)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    other = InceptionFeatures(64, path)
    monkeypatch.setattr(inception, "FID_WEIGHTS", PublishedFile(f"fid-{digest[:8]}.pth"))
    published = InceptionFeatures(64, path)

    assert (other.metric_name, published.metric_name) == ("frechet_custom", "fid")
    assert "not FID" in other.title
    assert published.title == "FID (64-d)"
    assert other.weights_sha256 == digest
    assert InceptionFeatures(64, path, "frechet_imagenet").metric_name == "frechet_imagenet"


def test_the_usual_place_is_used(tmp_path: Path, stem: State, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("GANC_DATA", str(tmp_path))
    saved(tmp_path / "weights" / inception.IMAGENET_HEAD.name, stem)

    assert InceptionFeatures(64, kind="frechet_imagenet").dims == 64


def test_missing_keys_are_named_with_what_the_file_reaches(tmp_path: Path, stem: State) -> None:
    path = saved(tmp_path / "stem.pth", stem)

    with pytest.raises(InputError, match=r"stem.pth: has no Conv2d_3b_1x1.* for dims 192; the file reaches 64"):
        InceptionFeatures(192, path)
    with pytest.raises(InputError, match=r"nothing.pth: has no Conv2d_1a_3x3.*expected Inception v3"):
        InceptionFeatures(64, saved(tmp_path / "nothing.pth", {"a": torch.zeros(1)}))


def test_other_shapes_are_named(tmp_path: Path, stem: State) -> None:
    key = "Conv2d_2a_3x3.conv.weight"
    path = saved(tmp_path / "wide.safetensors", {**stem, key: torch.zeros(64, 32, 3, 3)})

    with pytest.raises(InputError, match=rf"wide.*{key} has shape \(64, 32, 3, 3\), expected \(32, 32, 3, 3\)"):
        InceptionFeatures(64, path)


def test_where_2048_cannot_be_had_the_error_says_what_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)

    with pytest.raises(InputError, match=r"no route to host.*metric.dims .--dims. to 768 .*fp16.safetensors"):
        InceptionFeatures(2048, kind="frechet_imagenet")


def test_other_dims_are_refused() -> None:
    with pytest.raises(InputError, match=r"got 100; expected one of 64, 192, 768, 2048"):
        InceptionFeatures(100)


def test_making_it_leaves_global_randomness_alone(tmp_path: Path, stem: State) -> None:
    path = saved(tmp_path / "a.pth", stem)
    before = torch.random.get_rng_state()
    InceptionFeatures(64, path)

    assert torch.equal(before, torch.random.get_rng_state())


def test_imagenet_weights_reach_768(images: Tensor) -> None:
    path = real_data(f"weights/{inception.IMAGENET_HEAD.name}")

    for dims in (64, 192, 768):
        features = InceptionFeatures(dims, path, "frechet_imagenet")(images)
        assert features.shape == (2, dims)
        assert torch.isfinite(features).all()
        assert features.std() > 0
    with pytest.raises(InputError, match="the file reaches 768"):
        InceptionFeatures(2048, path, "frechet_imagenet")
