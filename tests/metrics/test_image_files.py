from pathlib import Path

import numpy as np
import pytest
import torch
from cleanfid.resize import build_resizer
from PIL import Image

from ganc_nni.core.errors import InputError
from ganc_nni.metrics import ImageFiles
from ganc_nni.metrics.image_files import resize_clean


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(32, 32), (299, 299), (256, 512), (700, 301), (5, 9)])
def test_clean_is_equal_to_clean_fid_s_resizer(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    expected = build_resizer("clean")(pixels)
    found = resize_clean(Image.fromarray(pixels))
    assert found.dtype == torch.float32
    assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)
    assert found.min() == 0
    assert found.max() == 255


def test_pictures_keep_their_size_or_get_the_network_s(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, size in zip(paths, ((20, 30), (40, 8)), strict=True):
        Image.fromarray(noise(*size)).save(path)
    own, clean = ImageFiles(paths), ImageFiles(paths, "clean")
    assert [tuple(own[i].shape) for i in (0, 1)] == [(3, 20, 30), (3, 40, 8)]
    assert [tuple(clean[i].shape) for i in (0, 1)] == [(3, 299, 299)] * 2
    assert torch.equal(own[0], torch.from_numpy(noise(20, 30)).permute(2, 0, 1) / 127.5 - 1)
    assert -1 <= clean[0].min() < clean[0].max() <= 1


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(noise(20, 30)[..., 0]).save(tmp_path / "grey.png")
    image = ImageFiles([tmp_path / "grey.png"])[0]
    assert torch.equal(image[0], image[2])


def test_the_digest_knows_content_order_and_resize(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for seed, path in enumerate(paths):
        Image.fromarray(noise(8, 8, seed)).save(path)
    digests = [
        ImageFiles(paths).digest(),
        ImageFiles(paths[::-1]).digest(),
        ImageFiles(paths, "clean").digest(),
        ImageFiles(paths[:1]).digest(),
    ]
    Image.fromarray(noise(8, 8, 7)).save(paths[0])
    digests.append(ImageFiles(paths).digest())
    assert len(set(digests)) == 5
    assert ImageFiles(paths).digest() == digests[-1]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.png"):
        ImageFiles([tmp_path / "broken.png"])[0]
