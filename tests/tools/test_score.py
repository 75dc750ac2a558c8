import os

import numpy as np
import pytest
import pytorch_fid.inception
import torch
from PIL import Image
from pytorch_fid.fid_score import calculate_frechet_distance, compute_statistics_of_path
from tiny import real_data
from torch.nn.functional import interpolate

from ganc_nni.core.errors import InputError
from ganc_nni.interop import read_generator
from ganc_nni.metrics import Gaussian, InceptionFeatures, RandomFeatures, inception, save_statistics
from ganc_nni.tools.score import Scorer, feature_scores
from ganc_nni.tools.translate import translate_folder


def save_images(folder, count, seed=0, size=(24, 32), spread=255, ending="png"):
    """Random images with some structure, so that sets of other seeds are apart."""
    folder.mkdir()
    random = torch.Generator().manual_seed(seed)
    for number in range(count):
        coarse = torch.rand(1, 3, 4, 4, generator=random) * spread
        pixels = interpolate(coarse, size=size, mode="bilinear")[0].permute(1, 2, 0).numpy().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.{ending}")
    return folder


@pytest.fixture
def folders(tmp_path):
    return save_images(tmp_path / "fake", 12, 1, spread=200), save_images(tmp_path / "real", 15, 2)


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory):
    """The same random weights as a file and, once ``load`` is patched, in pytorch-fid's own network."""
    state, random = {}, torch.Generator().manual_seed(3)
    for key, value in inception._needed(inception._network(2048, "fid")).items():
        fan_in = value[0].numel() if value.ndim == 4 else 1
        noise = torch.randn(value.shape, generator=random)
        state[key] = noise * (2 / fan_in) ** 0.5 if value.ndim == 4 else noise * 0.1
        if key.endswith(("bn.weight", "running_var")):
            state[key] = 1 + state[key].clamp(-0.5, 0.5)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(state, path)
    return path, {**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


def test_every_score_that_may_be_asked_for_has_its_features():
    scores = feature_scores()
    assert list(scores) == ["fid", "frechet_imagenet", "frechet_random", "kid", "kid_imagenet", "kid_random"]
    assert scores["kid_imagenet"] == ("frechet_imagenet", True)
    assert scores["frechet_random"] == ("frechet_random", False)


@pytest.mark.filterwarnings("ignore:Matrix is singular")  # pytorch-fid's root of it, for few images
@pytest.mark.parametrize(("dims", "ending"), [(64, "png"), (64, "jpg"), (64, "pgm"), (768, "png")])
def test_equals_pytorch_fid_s_own_path(tmp_path, monkeypatch, random_inception, dims, ending):
    path, complete = random_inception
    folders = [save_images(tmp_path / str(i), 6 + i, i, ending="png" if ending == "pgm" else ending) for i in (0, 1)]
    if ending == "pgm":  # grey ones
        for file in [file for folder in folders for file in folder.iterdir()]:
            with Image.open(file) as image:
                image.convert("L").save(file.with_suffix(".pgm"))
            file.unlink()
    monkeypatch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: complete)
    network = pytorch_fid.inception.InceptionV3([pytorch_fid.inception.InceptionV3.BLOCK_INDEX_BY_DIM[dims]]).eval()
    moments = [compute_statistics_of_path(str(folder), network, 4, dims, "cpu", num_workers=0) for folder in folders]
    expected = calculate_frechet_distance(*moments[0], *moments[1])

    score = Scorer(InceptionFeatures(dims, path), "pytorch-fid", batch_size=5).score(*folders)

    assert score.value == pytest.approx(expected, abs=1e-3)
    assert expected > 0.01
    assert (score.metric, score.dims, score.resize, score.n_fake, score.n_real) == (
        "frechet_custom", dims, "pytorch-fid", 6, 7
    )  # fmt: skip
    assert score.weights_sha256 == inception.file_sha256(path)


def test_statistics_of_pytorch_fid_stand_for_a_folder(tmp_path, monkeypatch, random_inception, folders):
    path, complete = random_inception
    monkeypatch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: complete)
    network = pytorch_fid.inception.InceptionV3([0]).eval()
    mu, sigma = compute_statistics_of_path(str(folders[1]), network, 4, 64, "cpu", num_workers=0)
    np.savez(tmp_path / "theirs.npz", mu=mu, sigma=sigma)
    scorer = Scorer(InceptionFeatures(64, path), "pytorch-fid", 4)
    score = scorer.score(folders[0], tmp_path / "theirs.npz")
    assert score.value == pytest.approx(scorer.score(*folders).value, abs=1e-3)
    assert (score.n_fake, score.n_real) == (12, None)


def test_own_statistics_stand_for_a_folder_and_pytorch_fid_reads_them(tmp_path, random_inception, folders):
    scorer = Scorer(InceptionFeatures(64, random_inception[0]), "clean", 4)
    gaussian = scorer.save_statistics(folders[1], tmp_path / "ours.npz")
    score = scorer.score(folders[0], tmp_path / "ours.npz")
    assert score == pytest.approx(scorer.score(*folders))
    assert score.n_real == gaussian.count == 15
    mu, sigma = compute_statistics_of_path(str(tmp_path / "ours.npz"), None, 4, 64, "cpu")
    np.testing.assert_allclose(mu, gaussian.mu)
    np.testing.assert_allclose(sigma, gaussian.sigma)


def test_statistics_made_otherwise_are_refused(tmp_path, random_inception, folders):
    ours = tmp_path / "ours.npz"
    Scorer(InceptionFeatures(64, random_inception[0]), "clean", 4).save_statistics(folders[1], ours)
    with pytest.raises(InputError, match=r"ours\.npz: made with resize clean, now it is pytorch-fid"):
        Scorer(InceptionFeatures(64, random_inception[0]), "pytorch-fid", 4).score(folders[0], ours)
    with pytest.raises(InputError, match=r"ours\.npz: has 64 features, the network makes"):
        Scorer(RandomFeatures(), "clean", 4).score(folders[0], ours)
    save_statistics(ours, Gaussian(torch.zeros(64), torch.eye(64), 9), {"weights_sha256": "another"})
    with pytest.raises(InputError, match=r"ours\.npz: made with weights_sha256 another, now it is "):
        Scorer(InceptionFeatures(64, random_inception[0]), "clean", 4).score(folders[0], ours)


def test_sizes_may_differ_within_a_folder(tmp_path, random_inception):
    one = save_images(tmp_path / "one", 4)
    for index, size in enumerate(((20, 20), (31, 17), (24, 32))):
        for path in save_images(tmp_path / f"extra{index}", 2, 5 + index, size).iterdir():
            path.rename(one / f"{index}_{path.name}")
    extractor = InceptionFeatures(64, random_inception[0])
    alone, together = (Scorer(extractor, "pytorch-fid", n).features(one) for n in (1, 8))
    assert len(alone) == 10
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_a_list_picks_real_images(tmp_path, folders):
    scorer = Scorer(RandomFeatures(), "pytorch-fid", 4)
    listing = tmp_path / "some.meta"
    listing.write_text("003.png\n001.png\n\n002.png\n")
    score = scorer.score(*folders, listing)
    assert score.n_real == 3
    assert score.value == scorer.score(folders[0], save_images_of(folders[1], tmp_path / "three", (1, 2, 3))).value
    scorer.save_statistics(folders[1], tmp_path / "three.npz", listing)
    assert scorer.score(folders[0], tmp_path / "three.npz").value == pytest.approx(score.value)
    with pytest.raises(InputError, match=r"some\.meta: .* holds statistics"):
        scorer.score(folders[0], tmp_path / "three.npz", listing)
    listing.write_text("# nothing\n")
    with pytest.raises(InputError, match=r"some\.meta: names no image"):
        scorer.score(*folders, listing)
    listing.write_text("001.png\nmissing.png\n")
    with pytest.raises(InputError, match=r"some\.meta: names missing\.png, not found in .*real"):
        scorer.score(*folders, listing)


def save_images_of(folder, target, numbers):
    target.mkdir()
    for number in numbers:
        (target / f"{number:03}.png").write_bytes((folder / f"{number:03}.png").read_bytes())
    return target


@pytest.mark.parametrize(("resize", "told"), [("pytorch-fid", "none"), ("clean", "clean")])
def test_kernel_distance(folders, resize, told):
    scorer = Scorer(RandomFeatures(), resize, 4)
    score = scorer.score(*folders, kernel=True)
    assert (score.metric, score.resize, score.n_fake, score.n_real) == ("kid_random", told, 12, 15)
    assert score.value > 0.001
    assert scorer.score(*folders).metric == "frechet_random"
    halves = folders[0], save_images_of(folders[0], folders[0].parent / "half", range(6))
    assert scorer.score(*halves, kernel=True).value < score.value


@pytest.mark.parametrize(
    ("published", "kernel", "name"),
    [(True, False, "fid"), (True, True, "kid"), (False, False, "frechet_custom"), (False, True, "kid_custom")],
)
def test_other_weights_change_the_name(random_inception, folders, monkeypatch, published, kernel, name):
    if published:
        digest = inception.file_sha256(random_inception[0])
        monkeypatch.setattr(inception, "FID_WEIGHTS", inception.PublishedFile(f"fid-{digest[:8]}.pth"))
    scorer = Scorer(InceptionFeatures(64, random_inception[0]), "pytorch-fid", 4)
    assert scorer.score(*folders, kernel=kernel).metric == name
    imagenet = Scorer(InceptionFeatures(64, random_inception[0], "frechet_imagenet"), "pytorch-fid", 4)
    assert imagenet.score(*folders, kernel=kernel).metric == ("kid_imagenet" if kernel else "frechet_imagenet")


def test_a_set_is_at_no_distance_from_itself(folders):
    scorer = Scorer(RandomFeatures(), "pytorch-fid", 4)
    assert scorer.score(folders[0], folders[0]).value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda folder: folder / "nowhere", "nowhere: no such folder"),
        (lambda folder: folder / "nowhere.npz", "nowhere.npz: no such file"),
        (lambda folder: save_images(folder / "single", 1), "single: 1 image to score; expected 2 or more"),
        (lambda folder: broken(folder / "broken"), "001.png: cannot be read as an image"),
        (lambda folder: write(folder / "text.npz", b"text"), "text.npz: "),
        (lambda folder: write(folder / "text.txt", b"text"), "text.txt: is a file; expected a folder"),
    ],
)
def test_bad_sets_are_one_line(tmp_path, folders, prepare, told):
    bad, scorer = prepare(tmp_path), Scorer(RandomFeatures(), "pytorch-fid", 4)
    for pair in ((folders[0], bad), (bad, folders[1])):
        with pytest.raises(InputError) as error:
            scorer.score(*pair)
        assert told in str(error.value)


def write(path, content):
    path.write_bytes(content)
    return path


def broken(folder):
    save_images(folder, 3)
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:60])
    return folder


def test_statistics_want_their_ending_and_appear_whole(tmp_path, folders):
    scorer = Scorer(RandomFeatures(), "pytorch-fid", 4)
    with pytest.raises(InputError, match=r"stats\.txt: expected a name that ends in \.npz"):
        scorer.save_statistics(folders[0], tmp_path / "stats.txt")
    with pytest.raises(InputError, match=r"broken.*001\.png"):
        scorer.save_statistics(broken(tmp_path / "broken"), tmp_path / "stats.npz")
    assert not list(tmp_path.glob("*stats*"))


def test_moments_do_not_make_a_kernel_distance(tmp_path, folders):
    scorer = Scorer(RandomFeatures(), "pytorch-fid", 4)
    scorer.save_statistics(folders[1], tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"a\.npz: .* a kernel distance needs the folder"):
        scorer.score(folders[0], tmp_path / "a.npz", kernel=True)


HEAD = f"weights/{inception.IMAGENET_HEAD.name}"
RELEASED = "weights/gan_compression_horse2zebra_16_16_32_16_32_32_16_16.pth"


@pytest.fixture(scope="module")
def horse2zebra(tmp_path_factory):
    """The folder of real data, and scores against the first 300 of its trainB by name."""
    zebras, *_ = real_data(*(f"datasets/horse2zebra/{name}" for name in ("trainB", "testA", "testB")), HEAD, RELEASED)
    root, made = zebras.parents[2], tmp_path_factory.mktemp("horse2zebra")
    (made / "first.meta").write_text("\n".join(sorted(path.name for path in zebras.iterdir())[:300]))
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)  # large images: the one slow test that gains from it
    scorer = Scorer(InceptionFeatures(768, root / HEAD, "frechet_imagenet"), "clean", 20)
    assert scorer.save_statistics(zebras, made / "first.npz", made / "first.meta").count == 300
    yield root, lambda folder: scorer.score(folder, made / "first.npz")
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("name", "expected"), [("testB", 0.433), ("testA", 2.033)])
def test_reference_distances_of_horse2zebra(horse2zebra, name, expected):
    root, score = horse2zebra
    assert score(root / "datasets" / "horse2zebra" / name).value == pytest.approx(expected, abs=0.01)


def test_the_released_generator_makes_zebras_of_horses(horse2zebra, tmp_path):
    root, score = horse2zebra
    file = read_generator(root / RELEASED)
    translate_folder(file, root / "datasets" / "horse2zebra" / "testA", tmp_path / "zebras", 4, torch.device("cpu"))
    found = score(tmp_path / "zebras")
    assert (found.n_fake, found.n_real) == (120, 300)
    assert found.value == pytest.approx(0.980, abs=0.01)


def test_teacher_and_inputs_say_how_good_the_score_is(tmp_path, folders, monkeypatch):
    """The generated images are the teacher's, a little off; the inputs are far away."""
    monkeypatch.setattr("ganc_nni.metrics.frechet.replicates", lambda count: 50)
    fake, real = folders
    teacher, inputs = tmp_path / "teacher", save_images(tmp_path / "inputs", 10, 3, spread=60)
    teacher.mkdir()
    for path in fake.iterdir():
        pixels = np.asarray(Image.open(path))
        Image.fromarray(pixels + 2).save(teacher / f"{path.stem}.bmp")
    scorer = Scorer(RandomFeatures(), "pytorch-fid", 5)
    plain, found = scorer.score(fake, real), scorer.score(fake, real, teacher=teacher, untouched=inputs)
    assert (plain.ssim, plain.teacher, plain.untouched, plain.verdict) == (None,) * 4
    assert found.low < found.value < found.high
    assert (found.value, found.low, found.high) == (plain.value, plain.low, plain.high)
    assert found.psnr == pytest.approx(20 * np.log10(255 / 2), abs=1e-3)
    assert 0.9 < found.ssim < 1
    assert found.teacher == scorer.score(teacher, real).value
    assert found.untouched == scorer.score(inputs, real).value > found.value
    assert "as good as its teacher" in found.verdict
    worse = scorer.score(inputs, real, untouched=fake)
    assert worse.verdict.startswith("The compressed generator is not better than its untouched input")
    kid = scorer.score(fake, real, kernel=True, teacher=teacher)
    assert kid.low < kid.value < kid.high
    assert "kid_random" in kid.verdict
    scorer.save_statistics(fake, tmp_path / "fake.npz")
    assert scorer.score(tmp_path / "fake.npz", real).low is None
    with pytest.raises(InputError, match=r"fake\.npz: holds mean and covariance; to compare with a teacher"):
        scorer.score(tmp_path / "fake.npz", real, teacher=teacher)
    (teacher / "003.bmp").unlink()
    with pytest.raises(InputError, match=r"003\.png: has no partner in .*teacher"):
        scorer.score(fake, real, teacher=teacher)
    Image.new("RGB", (9, 9)).save(teacher / "003.png")
    with pytest.raises(InputError, match=r"003\.png: is 24 x 32 pixels, .* is 9 x 9; expected images of the same"):
        scorer.score(fake, real, teacher=teacher)
