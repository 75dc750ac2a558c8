"""Every loss keeps to the contract of losses, and equals an independent formula."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchvision.models.vgg import cfgs, make_layers

from ganc_nni.losses.adversarial import GAN_LOSSES
from ganc_nni.losses.distillation import LOSSES, Objective, Step
from ganc_nni.losses.distillation.distill import MappedFeatures
from ganc_nni.losses.distillation.kernel_alignment import kernel_alignment
from ganc_nni.losses.distillation.wavelet import haar
from ganc_nni.recipe import DistillationRecipe
from ganc_nni.supernet.distillation import FeatureMapping
from ganc_nni.testing.losses import LossConformance, features, images, new_discriminator, new_step, vgg19_weights

NONE = dict.fromkeys(LOSSES, 0)


class TestLosses(LossConformance):
    members = tuple(LOSSES)
    without_teacher = ("gan", "tv")
    scales: ClassVar = {"style": 1e4}


@pytest.fixture(scope="session")
def vgg19(tmp_path_factory):
    return vgg19_weights(tmp_path_factory.mktemp("distilling") / "vgg19.pth")


@pytest.fixture
def objective(vgg19):
    """Makes the objective of the given weights alone."""

    def make(teacher_discriminator=None, **weights):
        recipe = DistillationRecipe(losses={**NONE, **weights}, perceptual_weights=vgg19)
        return Objective(recipe, teacher_discriminator)

    return make


def value(objective, step, discriminator=None):
    ((_, loss),) = objective(step, discriminator or new_discriminator(step.paired)).items()
    return loss


def test_pictures_are_judged_and_seen_once(objective):
    sizes = []
    discriminator = new_discriminator(scales=2)
    discriminator.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    losses = objective(gan=1, feat=1, discriminator_features=1, style=1, content=1)
    losses.vgg.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    losses(new_step(), discriminator)
    assert sizes == [6, 2, 2]


def test_kernel_alignment_equals_the_alignment_of_gram_matrices(objective):
    step = new_step(12)

    def flat(x):
        return np.concatenate([image.reshape(image.shape[0], -1).T for image in x.double().numpy()])

    expected = 0
    for ours, theirs in zip(step.features, step.taught_features, strict=True):
        x, y = flat(ours), flat(theirs)
        k, m = x @ x.T, y @ y.T  # places by places
        expected += 1 - (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    assert value(objective(kernel_alignment=1), step).item() == pytest.approx(expected, rel=1e-4)


def test_kernel_alignment_ignores_rotation_and_scale_of_channels():
    torch.manual_seed(0)
    x, (rotation, _) = torch.randn(50, 6), torch.linalg.qr(torch.randn(6, 6))
    assert kernel_alignment(x, 1e4 * x @ rotation).item() == pytest.approx(1, abs=1e-5)
    assert kernel_alignment(1e-8 * x, 1e8 * x).item() == pytest.approx(1, abs=1e-5)
    assert kernel_alignment(torch.zeros(50, 3), x) == 0


def test_channels_are_compared_by_their_means(objective):
    step = replace(new_step(12), mappings=[FeatureMapping(16, 16, 1) for _ in range(4)])
    expected = 0
    for layer, ours, theirs in zip(step.mappings, step.features, step.taught_features, strict=True):
        expected += (layer(ours).flatten(2).mean(2) - theirs.flatten(2).mean(2)).square().mean()
    torch.testing.assert_close(value(objective(channel=1), step), expected, rtol=1e-4, atol=1e-6)


def test_ssim_equals_the_formula_of_its_paper(objective):
    step = new_step()
    scores = []
    for fake, taught in zip(step.fake.double().numpy(), step.taught.double().numpy(), strict=True):
        for x, y in zip(fake, taught, strict=True):

            def blur(image):
                return gaussian_filter(image, 1.5, mode="mirror", truncate=3.5)

            mx, my = blur(x), blur(y)
            vx, vy, covariance = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
            c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
            score = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
            scores.append(score.mean())
    assert value(objective(ssim=1), step).item() == pytest.approx(1 - np.mean(scores), rel=1e-4)


def test_style_and_content_equal_torchvisions_network(objective, vgg19):
    network = make_layers(cfgs["E"])[:30]
    state = torch.load(vgg19, weights_only=True)
    network.load_state_dict({key.removeprefix("features."): weight for key, weight in state.items()})
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def seen(x):
        return [network[: end + 1]((((x + 1) / 2) - mean) / std) for end in (1, 6, 11, 20, 29)]

    def gram(x):
        return torch.einsum("nahw,nbhw->nab", x, x) / x[0].numel()

    step = new_step()
    with torch.no_grad():
        ours, theirs = seen(step.fake), seen(step.taught)
        style = sum((gram(a) - gram(b)).abs().mean() for a, b in zip(ours, theirs, strict=True))
        torch.testing.assert_close(value(objective(style=1), step), style, rtol=1e-4, atol=1e-8)
        content = (ours[1] - theirs[1]).abs().mean()
        torch.testing.assert_close(value(objective(content=1), step), content, rtol=1e-4, atol=1e-8)


def test_total_variation_by_hand(objective):
    step = new_step()
    x = step.fake.numpy()
    expected = (np.abs(np.diff(x, axis=2)).sum() + np.abs(np.diff(x, axis=3)).sum()) / len(x)
    assert value(objective(tv=1), step).item() == pytest.approx(expected, rel=1e-5)
    assert value(objective(tv=1), replace(step, fake=torch.full_like(step.fake, 0.3))) == 0


@pytest.mark.parametrize("side", [32, 20])
def test_wavelet_bands_equal_products_with_haars_matrix(objective, side):
    step = replace(new_step(), fake=images(4, side=side), taught=images(1, side=side))

    def bands(image):
        """Three levels, each a product with the orthonormal matrix of sums and differences from both sides."""
        found, low = [], image.double().numpy()
        for _ in range(3):
            n = low.shape[-1]
            if n % 2:
                low = np.pad(low, ((0, 0), (0, 0), (0, 1), (0, 1)), mode="edge")
                n += 1
            sums = np.kron(np.eye(n // 2), [1, 1]) / np.sqrt(2)
            differences = np.kron(np.eye(n // 2), [1, -1]) / np.sqrt(2)
            found += [a @ low @ b.T for a, b in ((sums, differences), (differences, sums), (differences, differences))]
            low = sums @ low @ sums.T
        return found

    expected = sum(np.abs(a - b).mean() for a, b in zip(bands(step.fake), bands(step.taught), strict=True))
    assert value(objective(wavelet=1), step).item() == pytest.approx(expected, rel=1e-4)


def test_haar_keeps_the_energy_and_leaves_flat_images_to_the_low_band(objective):
    x = images(0)
    torch.testing.assert_close(sum(band.square().sum() for band in haar(x)), x.square().sum())
    step = replace(new_step(), taught=x, fake=x + 0.5)
    assert value(objective(wavelet=1), step).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("scales", [1, 2])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_discriminator_features_by_hand(objective, paired, own, scales):
    step, judge, other = new_step(paired=paired), new_discriminator(paired, scales), new_discriminator(paired)
    if own:
        loss = value(objective(discriminator_features=1), step, judge)
    else:
        loss = value(objective(judge, discriminator_features=1), step, other)

    def layers(images):
        shown = torch.cat((step.source, images), 1) if paired else images
        if scales > 1:
            return judge(shown)
        found, x = [], shown
        for layer in judge.model[:-1]:
            x = layer(x)
            if isinstance(layer, torch.nn.LeakyReLU):
                found.append(x)
        return [[*found, judge(shown)]]

    expected = [
        sum((a - b).abs().mean() for a, b in zip(ours[:-1], theirs[:-1], strict=True))
        for ours, theirs in zip(layers(step.fake), layers(step.taught), strict=True)
    ]
    torch.testing.assert_close(loss, sum(expected) / len(expected))


@pytest.mark.parametrize("paired", [True, False])
def test_published_losses_by_hand(objective, paired):
    step, judge = new_step(paired=paired), new_discriminator(paired)
    shown = torch.cat((step.source, step.fake), 1) if paired else step.fake
    adversarial = value(objective(gan=3), step, judge)
    torch.testing.assert_close(adversarial, 3 * GAN_LOSSES["hinge"].generator(judge(shown)))
    goal = step.target if paired else step.taught
    torch.testing.assert_close(value(objective(recon=3), step), 3 * (step.fake - goal).abs().mean())


def test_intermediate_features_are_equation_2_of_gan_compression():
    """The sum, over the layers, of the mean square of what the mapped student and the teacher differ by."""
    learnt, taught = features(1, 4), features(2, 6)
    torch.manual_seed(3)
    mappings = [FeatureMapping(4, 6, 1) for _ in learnt]
    x = images(0)
    step = Step(x, x, False, x, x, learnt, taught, mappings)
    expected = 0.0
    for mapping, ours, theirs in zip(mappings, learnt, taught, strict=True):
        weight = mapping.weight.detach().double()[:, :, 0, 0]
        mapped = torch.einsum("oc,nchw->nohw", weight, ours.double()) + mapping.bias.detach().double()[:, None, None]
        expected += ((mapped - theirs.double()) ** 2).mean().item()
    assert MappedFeatures()(step).item() == pytest.approx(expected, rel=1e-5)
