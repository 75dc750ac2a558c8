import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from ganc_nni.core.downloads import PublishedFile, file_sha256
from ganc_nni.core.errors import InputError
from ganc_nni.losses import vgg as perceptual_module
from ganc_nni.losses.adversarial import GAN_LOSSES, Adversary, build_reconstruction, feature_matching
from ganc_nni.losses.discriminators import MultiscaleDiscriminator, PatchDiscriminator
from ganc_nni.recipe import DOWNLOAD, DistillationRecipe, Recipe, TeacherRecipe


def logits(seed, scale=2.0):
    return scale * torch.randn(2, 1, 5, 7, generator=torch.Generator().manual_seed(seed))


def by_torch(name, real, fake):
    """The discriminator's and the generator's loss from torch's own criteria."""
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    if name == "hinge":
        criterion = nn.HingeEmbeddingLoss(margin=1)  # for the label -1: max(0, 1 - x)
        return (criterion(real, -ones) + criterion(-fake, -ones)) / 2, -fake.mean()
    criterion = {"lsgan": F.mse_loss, "vanilla": F.binary_cross_entropy_with_logits}[name]
    return (criterion(real, ones) + criterion(fake, zeros)) / 2, criterion(fake, ones)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_gan_losses_equal_torchs(name):
    real, fake = logits(0), logits(1)
    discriminator, generator = by_torch(name, real, fake)
    torch.testing.assert_close(GAN_LOSSES[name].discriminator(real, fake), discriminator)
    torch.testing.assert_close(GAN_LOSSES[name].generator(fake), generator)


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        ("lsgan", 0.5 * (0.25 + 4), 1),
        ("hinge", 0.5 * (0.5 + 3), -2),
        ("vanilla", 0.5 * (0.474077 + 2.126928), 0.126928),
    ],
)
def test_gan_losses_by_hand(name, discriminator, generator):
    real, fake = torch.tensor([0.5]), torch.tensor([2.0])
    assert GAN_LOSSES[name].discriminator(real, fake).item() == pytest.approx(discriminator, abs=1e-6)
    assert GAN_LOSSES[name].generator(fake).item() == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_better_fakes_please_the_generator_and_not_the_discriminator(name):
    loss, real, fake = GAN_LOSSES[name], logits(0, 0.2), logits(1, 0.2)
    assert loss.generator(fake + 0.1) < loss.generator(fake)
    assert loss.discriminator(real, fake + 0.1) > loss.discriminator(real, fake)
    assert loss.discriminator(real + 0.1, fake) < loss.discriminator(real, fake)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_gan_losses_stay_finite_for_huge_logits(name):
    huge = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = GAN_LOSSES[name].discriminator(huge, huge) + GAN_LOSSES[name].generator(huge)
    loss.backward()
    assert loss.isfinite()
    assert huge.grad.isfinite().all()


@pytest.mark.parametrize("recipe", [TeacherRecipe, DistillationRecipe])
def test_table_holds_what_a_recipe_may_say(recipe):
    for name in GAN_LOSSES:
        assert recipe(gan_loss=name).gan_loss == name


def judged_images(count, channels=3):
    return [torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(count)]


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_one_scale_is_the_plain_loss(name):
    torch.manual_seed(0)
    discriminator, loss, (fake, real) = PatchDiscriminator(3, 4, 2), GAN_LOSSES[name], judged_images(2)
    adversary = Adversary(loss)
    losses = adversary.generator(discriminator, fake, real)
    assert losses == {"gan": loss.generator(discriminator(fake))}
    expected = loss.discriminator(discriminator(real), discriminator(fake))
    assert adversary.discriminator(discriminator, fake, real) == expected


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_several_scales_are_averaged(name):
    torch.manual_seed(0)
    discriminator, loss = MultiscaleDiscriminator(3, 4, 3, n_scales=3).eval(), GAN_LOSSES[name]
    fake, real = judged_images(2)
    adversary = Adversary(loss)
    fakes, reals = ([layers[-1] for layers in discriminator(images)] for images in (fake, real))
    (key, value), *others = adversary.generator(discriminator, fake, real).items()
    assert (key, others) == ("gan", [])
    torch.testing.assert_close(value, sum(loss.generator(logits) for logits in fakes) / 3)
    expected = sum(loss.discriminator(*logits) for logits in zip(reals, fakes, strict=True)) / 3
    torch.testing.assert_close(adversary.discriminator(discriminator, fake, real), expected)


def test_feature_matching_by_hand():
    def features(*values):
        return [torch.full((1, 2, 3, 3), float(value)) for value in values]

    fake = [features(1, 2, 100), features(3, 4, 100)]
    real = [features(0, 4, 0), features(3, 1, 0)]  # distances 1 + 2 and 0 + 3; the logits do not count
    assert feature_matching(fake, real).item() == (3 + 3) / 2


def test_feature_matching_is_weighted_and_zero_for_the_truth():
    torch.manual_seed(0)
    discriminator, (fake, real) = MultiscaleDiscriminator(3, 4, 3).eval(), judged_images(2)
    loss = GAN_LOSSES["hinge"]
    once, thrice = (Adversary(loss, lambda_feat=weight).generator(discriminator, fake, real) for weight in (1, 3))
    assert once["feat"] > 0
    torch.testing.assert_close(thrice["feat"], 3 * once["feat"])
    torch.testing.assert_close(thrice["gan"], once["gan"])
    torch.testing.assert_close(once["feat"], feature_matching(discriminator(fake), discriminator(real)))
    assert Adversary(loss, lambda_feat=1).generator(discriminator, real, real)["feat"] == 0


def test_gradients_flow_to_the_side_that_learns():
    torch.manual_seed(0)
    discriminator, (fake, real) = MultiscaleDiscriminator(3, 4, 3), judged_images(2)
    fake.requires_grad_(), real.requires_grad_()
    adversary = Adversary(GAN_LOSSES["hinge"], lambda_feat=1)
    adversary.discriminator(discriminator, fake, real).backward()
    assert fake.grad is None
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    real.grad = None
    adversary.generator(discriminator, fake, real)["feat"].backward()
    assert fake.grad.abs().sum() > 0
    assert real.grad is None or real.grad.abs().sum() == 0


def test_fake_and_real_are_judged_in_one_batch():
    torch.manual_seed(0)
    discriminator, sizes = MultiscaleDiscriminator(3, 4, 3), []
    discriminator.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    adversary = Adversary(GAN_LOSSES["hinge"], lambda_feat=1)
    adversary.generator(discriminator, *judged_images(2))
    adversary.discriminator(discriminator, *judged_images(2))
    assert sizes == [4, 4]


@pytest.mark.parametrize(("layout", "n_scales"), [("paired", 1), ("unpaired", 2)])
def test_feature_matching_needs_scales_and_pairs(layout, n_scales):
    content = {
        "name": "x",
        "data": {"layout": layout},
        "student": {"space": "space.json"},
        "search": {"budget": 1e9},
        "discriminator": {"n_scales": n_scales},
        "teacher": {"lambda_feat": 10},
    }
    message = rf"teacher\.lambda_feat 10 needs .*\(got {n_scales}\) and pairs \(data.layout is {layout}\)"
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate(content)
    allowed = {**content, "data": {"layout": "paired"}, "discriminator": {"n_scales": 2}}
    assert Recipe.model_validate(allowed).teacher.lambda_feat == 10


def test_perceptual_teachers_need_weights_unless_they_are_off(monkeypatch):
    recipe = TeacherRecipe
    monkeypatch.setenv("GANC_DATA", "/data")
    with pytest.raises(ValueError, match=r"needs perceptual_weights, .* or the word download"):
        recipe(recon_loss="perceptual")
    assert recipe(recon_loss="perceptual", lambda_recon=0).perceptual_weights is None
    assert recipe(recon_loss="perceptual", perceptual_weights="download").perceptual_weights == DOWNLOAD
    assert str(recipe(perceptual_weights="vgg/19.pth").perceptual_weights) == "/data/vgg/19.pth"
    assert (recipe().recon_loss, recipe().lambda_recon, recipe().lambda_feat) == ("l1", 100, 0)


@pytest.mark.parametrize(("name", "expected"), [("l1", 0.5), ("l2", 0.25), ("smooth_l1", 0.125)])
def test_pixel_losses(name, expected):
    generated, target = torch.full((2, 3, 4, 4), 0.75), torch.full((2, 3, 4, 4), 0.25)
    assert build_reconstruction(name)(generated, target).item() == pytest.approx(expected)


def test_unknown_reconstruction_lists_the_valid():
    with pytest.raises(ValueError, match=r"'psnr'.*l1, l2, smooth_l1, perceptual"):
        build_reconstruction("psnr")


@pytest.fixture(scope="session")
def vgg19():
    """Torchvision's VGG19 features up to relu5_1, with random weights."""
    torch.manual_seed(0)
    return make_layers(cfgs["E"])[:30].requires_grad_(False)


@pytest.fixture(scope="session")
def vgg19_file(vgg19, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save({f"features.{key}": value for key, value in vgg19.state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def perceptual(vgg19_file):
    return build_reconstruction("perceptual", vgg19_file)


def images(seed, channels=3):
    return torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_perceptual_equals_torchvisions_network(perceptual, vgg19):
    def features(x):
        x = ((x + 1) / 2 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        return [vgg19[: end + 1](x.clone()) for end in (1, 6, 11, 20, 29)]

    pairs = zip(features(images(0)), features(images(1)), (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), strict=True)
    expected = sum(weight * (a - b).abs().mean() for a, b, weight in pairs)
    torch.testing.assert_close(perceptual(images(0), images(1)), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_perceptual_is_zero_for_equal_images_alone(perceptual, channels):
    assert perceptual(images(0, channels), images(0, channels)) == 0
    assert perceptual(images(0, channels), images(1, channels)) > 0


def test_grey_is_repeated_to_rgb(perceptual):
    grey, other = images(0, 1), images(1, 1)
    torch.testing.assert_close(perceptual(grey, other), perceptual(grey.repeat(1, 3, 1, 1), other.repeat(1, 3, 1, 1)))


def test_perceptual_gradient_flows_into_the_generated_alone(perceptual):
    generated, target = images(0).requires_grad_(), images(1).requires_grad_()
    perceptual(generated, target).backward()
    assert generated.grad.abs().sum() > 0
    assert target.grad is None


def test_perceptual_neither_trains_nor_swells_checkpoints_but_moves(perceptual):
    parent = nn.Sequential(nn.Linear(1, 1), perceptual)
    assert parent.state_dict().keys() == {"0.weight", "0.bias"}
    assert len(list(parent.parameters())) == 2
    x, y = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    moved = copy.deepcopy(parent).double()[1](x.double(), y.double())
    assert moved.dtype == torch.float64
    assert moved.item() == pytest.approx(perceptual(x, y).item(), rel=1e-4)


def test_perceptual_reads_safetensors_of_the_whole_network(perceptual, vgg19, tmp_path):
    path = tmp_path / "vgg19.safetensors"
    whole = {f"features.{key}": value for key, value in vgg19.state_dict().items()}
    save_file({**whole, "classifier.6.bias": torch.zeros(1000)}, path)
    loss = build_reconstruction("perceptual", path)
    assert loss(images(0), images(1)) == perceptual(images(0), images(1))


def test_perceptual_without_weights():
    with pytest.raises(InputError, match="needs perceptual_weights"):
        build_reconstruction("perceptual")


def test_missing_weights_file(tmp_path):
    with pytest.raises(InputError, match=r"gone\.pth: no such file; .*https://download\.pytorch\.org.*vgg19"):
        build_reconstruction("perceptual", tmp_path / "gone.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_file_that_is_no_weights(tmp_path, suffix, content):
    path = tmp_path / f"vgg19{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"vgg19{suffix}: cannot be read as weights"):
        build_reconstruction("perceptual", path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "expected a state dict .*got nothing"),
        ({"a": torch.zeros(1)}, "key features.0.weight is missing"),
        ({"features.0.weight": torch.zeros(64, 1, 3, 3)}, r"has shape \(64, 1, 3, 3\), expected \(64, 3, 3, 3\)"),
        ([], "expected a state dict .*got list"),
    ],
)
def test_weights_of_another_network(tmp_path, state, message):
    torch.save(state, tmp_path / "vgg16.pth")
    with pytest.raises(InputError, match=message):
        build_reconstruction("perceptual", tmp_path / "vgg16.pth")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Torch hub's folder of checkpoints, empty; nothing is downloaded."""

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "hub" / "checkpoints"


def published(path):
    """What the published file would be called if it were this one."""
    return PublishedFile("vgg19-dcbb9e9d.pth", perceptual_module.URL, file_sha256(path))


def test_downloaded_weights_are_used_again_if_they_are_the_published_ones(hub, vgg19_file, perceptual, monkeypatch):
    hub.mkdir(parents=True)
    (hub / "vgg19-dcbb9e9d.pth").write_bytes(vgg19_file.read_bytes())
    with pytest.raises(InputError, match=r"damaged or another file: .* name it in perceptual_weights"):
        build_reconstruction("perceptual", DOWNLOAD)
    monkeypatch.setattr(perceptual_module, "PUBLISHED", published(vgg19_file))
    loss = build_reconstruction("perceptual", DOWNLOAD)
    assert loss(images(0), images(1)) == perceptual(images(0), images(1))


def test_a_download_goes_to_torchs_cache_and_is_checked(hub, vgg19_file, monkeypatch):
    calls = []

    def download(url, path, hash_prefix, progress):
        calls.append((url, path, hash_prefix))
        Path(path).write_bytes(vgg19_file.read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(perceptual_module, "PUBLISHED", published(vgg19_file))
    for _ in range(2):
        build_reconstruction("perceptual", DOWNLOAD)
    name = "vgg19-dcbb9e9d.pth"
    assert calls == [(f"https://download.pytorch.org/models/{name}", str(hub / name), file_sha256(vgg19_file))]


def test_without_network_the_message_says_what_to_put_where(hub):
    message = r"perceptual_weights: the download failed \(no network\); fetch https.*vgg19-dcbb9e9d\.pth elsewhere"
    with pytest.raises(InputError, match=message) as error:
        build_reconstruction("perceptual", DOWNLOAD)
    assert str(hub / "vgg19-dcbb9e9d.pth") in str(error.value)
    assert "\n" not in str(error.value)
