"""Every loss of the table is one that a student can learn from; each equals an independent formula."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from tiny import search_space, supernet_of
from torchvision.models.vgg import cfgs, make_layers

from ganc_nni.generators import ResnetGenerator
from ganc_nni.losses.adversarial import GAN_LOSSES
from ganc_nni.losses.discriminators import MultiscaleDiscriminator, PatchDiscriminator
from ganc_nni.losses.distillation import LOSSES, DistillationLoss, Entry, Objective, Step
from ganc_nni.losses.distillation.features import MappedFeatures, kernel_alignment
from ganc_nni.losses.distillation.images import haar
from ganc_nni.recipe import DistillationRecipe, Recipe
from ganc_nni.supernet.distillation import FeatureMapping
from ganc_nni.supernet.sampling import activate

LAMBDAS = [key for key in DistillationRecipe.model_fields if key.startswith("lambda_")]
NONE = dict.fromkeys(LAMBDAS, 0)
NAMES = {key: key.removeprefix("lambda_") for key in LAMBDAS}
UNBOUNDED = {"lambda_gan", "lambda_tv"}
"""Losses that know no teacher; these are not 0 where the student equals it."""

ONE = {key: {key: 1e4 if key == "lambda_style" else 1} for key in LAMBDAS}
"""Each loss alone, at about the same size."""


@pytest.fixture(scope="session")
def vgg19_weights(tmp_path_factory):
    torch.manual_seed(0)
    features = make_layers(cfgs["E"])[:30]
    path = tmp_path_factory.mktemp("distilling") / "vgg19.pth"
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, path)
    return path


@pytest.fixture
def objective(vgg19_weights):
    """Makes the objective of the given weights alone."""

    def make(teacher_discriminator=None, **weights):
        recipe = DistillationRecipe(**{**NONE, **weights}, perceptual_weights=vgg19_weights)
        return Objective(recipe, teacher_discriminator)

    return make


def random_images(seed, count=2, channels=3, side=32):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, side, side, generator=random) * 2 - 1


def random_features(seed, channels, count=2):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(count, channels, 8, 8, generator=random) for _ in range(4)]


def mapping(wide, narrow):
    """To the same channels, as well as there are any."""
    layer = FeatureMapping(narrow, wide, 1)
    torch.nn.init.dirac_(layer.weight), torch.nn.init.zeros_(layer.bias)
    return layer.requires_grad_(False)


def new_step(student_channels=16, equal=False, paired=True):
    taught, taught_features = random_images(1), random_features(2, 16)
    return Step(
        source=random_images(0),
        target=taught if equal else random_images(3),
        paired=paired,
        fake=taught.clone() if equal else random_images(4),
        taught=taught,
        features=[x.clone() for x in taught_features] if equal else random_features(5, student_channels),
        taught_features=taught_features,
        mappings=[mapping(16, 16)] * 4,
    )


def new_discriminator(paired=True, scales=1):
    torch.manual_seed(6)
    channels = 6 if paired else 3
    network = PatchDiscriminator(channels, 4, 2) if scales == 1 else MultiscaleDiscriminator(channels, 4, 3, scales)
    return network.requires_grad_(False).eval()


def value(objective, step, discriminator=None):
    ((_, loss),) = objective(step, discriminator or new_discriminator(step.paired)).items()
    return loss


def test_the_table_holds_what_a_recipe_may_weigh():
    asked = []
    for entry in LOSSES:
        asked += [key for key in LAMBDAS if entry.weight(DistillationRecipe.model_construct(**{**NONE, key: 2})) == 2]
    assert sorted(asked) == sorted(LAMBDAS)
    assert len(LOSSES) == len(LAMBDAS)


@pytest.mark.parametrize("key", LAMBDAS)
def test_a_loss_is_called_like_its_weight(objective, key):
    assert list(objective(**{key: 2})(new_step(), new_discriminator())) == [NAMES[key]]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("key", LAMBDAS)
def test_every_loss_is_finite_and_teaches_the_student_alone(objective, key, paired):
    step = new_step(12, paired=paired)
    learned = [step.fake.requires_grad_(), *(x.requires_grad_() for x in step.features)]
    fixed = [step.taught.requires_grad_(), *(x.requires_grad_() for x in step.taught_features)]
    loss = value(objective(**ONE[key]), step)
    assert loss.shape == ()
    assert loss.isfinite()
    assert loss.dtype == torch.float32
    loss.backward()
    gradients = [x.grad for x in learned if x.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    assert all(x.grad is None or x.grad.abs().sum() == 0 for x in fixed)


@pytest.mark.parametrize("key", [key for key in LAMBDAS if key not in UNBOUNDED])
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(objective, key):
    loss = objective(**ONE[key])
    assert value(loss, new_step(equal=True)).item() == pytest.approx(0, abs=1e-5)
    assert value(loss, new_step()) > 1e-3


@pytest.mark.parametrize("key", LAMBDAS)
def test_the_size_of_the_batch_does_not_matter(objective, key):
    def twice(x):
        return torch.cat((x, x)) if isinstance(x, torch.Tensor) else [torch.cat((y, y)) for y in x]

    once, loss = new_step(), objective(**ONE[key])
    parts = ("source", "target", "fake", "taught", "features", "taught_features")
    both = replace(once, **{name: twice(getattr(once, name)) for name in parts})
    torch.testing.assert_close(value(loss, both), value(loss, once), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("key", LAMBDAS)
def test_every_loss_stays_finite_in_bf16(objective, key):
    step, loss = new_step(), objective(**ONE[key])
    exact = value(loss, step)
    half = replace(
        step,
        fake=step.fake.bfloat16().requires_grad_(),
        features=[x.bfloat16().requires_grad_() for x in step.features],
    )
    with torch.autocast("cpu", torch.bfloat16):
        rough = value(loss, half)
    rough.backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in (half.fake, *half.features))
    assert rough.item() == pytest.approx(exact.item(), rel=0.1, abs=0.02)


@pytest.mark.parametrize("key", LAMBDAS)
def test_every_loss_takes_the_widths_of_each_step(objective, key):
    space, loss = search_space(), objective(**ONE[key])
    supernet = supernet_of(space, 7)
    torch.manual_seed(8)
    teacher = ResnetGenerator([8] * 8, n_blocks=3)
    source, mappings = random_images(9), [FeatureMapping(32, 32, 1) for _ in range(4)]
    with torch.no_grad():
        taught, goals = teacher.forward_with_features(source)
    for sample in (space.smallest(), space.largest()):
        activate(supernet, sample)
        supernet.zero_grad()
        fake, features = supernet.forward_with_features(source)
        step = Step(source, random_images(10), True, fake, taught, features, goals, mappings)
        value(loss, step).backward()
        first = supernet.model[1].weight.grad
        assert first is not None
        assert first.isfinite().all()
        assert first.abs().sum() > 0


def test_losses_are_weighted_and_come_in_the_order_of_the_table(objective):
    step, discriminator = new_step(), new_discriminator(scales=2)
    weights = {key: index + 1 for index, key in enumerate(LAMBDAS)}
    losses = objective(**weights)(step, discriminator)
    order = [
        key
        for entry in LOSSES
        for key in LAMBDAS
        if entry.weight(DistillationRecipe.model_construct(**weights)) == weights[key]
    ]
    assert list(losses) == [NAMES[key] for key in order]
    for key, weight in weights.items():
        alone = value(objective(**{key: 1}), step, discriminator)
        torch.testing.assert_close(losses[NAMES[key]], weight * alone, rtol=1e-4, atol=1e-6)


def test_a_new_loss_is_an_object(vgg19_weights):
    class Grey(DistillationLoss):
        name = "grey"

        def forward(self, step):
            return step.fake.mean().square()

    table = [Entry(lambda recipe: 2, lambda recipe, discriminator: Grey())]
    step = new_step()
    (loss,) = Objective(DistillationRecipe(), table=table)(step, new_discriminator()).values()
    assert loss == 2 * step.fake.mean().square()


def test_pictures_are_judged_and_seen_once(objective):
    sizes = []
    discriminator = new_discriminator(scales=2)
    discriminator.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    losses = objective(lambda_gan=1, lambda_feat=1, lambda_discriminator_features=1, lambda_style=1, lambda_content=1)
    losses.vgg.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    losses(new_step(), discriminator)
    assert sizes == [6, 2, 2]


def test_an_objective_has_nothing_to_save_or_train(objective):
    whole = objective(new_discriminator(), **dict.fromkeys(LAMBDAS, 1))
    assert whole.state_dict() == {}
    assert list(whole.parameters()) == []


# Independent formulas


def test_kernel_alignment_equals_the_alignment_of_gram_matrices(objective):
    step = new_step(12)

    def flat(x):
        return np.concatenate([image.reshape(image.shape[0], -1).T for image in x.double().numpy()])

    expected = 0
    for ours, theirs in zip(step.features, step.taught_features, strict=True):
        x, y = flat(ours), flat(theirs)
        k, m = x @ x.T, y @ y.T  # places by places
        expected += 1 - (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    assert value(objective(lambda_kernel_alignment=1), step).item() == pytest.approx(expected, rel=1e-4)


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
    torch.testing.assert_close(value(objective(lambda_channel=1), step), expected, rtol=1e-4, atol=1e-6)


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
    assert value(objective(lambda_ssim=1), step).item() == pytest.approx(1 - np.mean(scores), rel=1e-4)


def test_style_and_content_equal_torchvisions_network(objective, vgg19_weights):
    network = make_layers(cfgs["E"])[:30]
    state = torch.load(vgg19_weights, weights_only=True)
    network.load_state_dict({key.removeprefix("features."): weight for key, weight in state.items()})
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def features(x):
        return [network[: end + 1]((((x + 1) / 2) - mean) / std) for end in (1, 6, 11, 20, 29)]

    def gram(x):
        return torch.einsum("nahw,nbhw->nab", x, x) / x[0].numel()

    step = new_step()
    with torch.no_grad():
        ours, theirs = features(step.fake), features(step.taught)
        style = sum((gram(a) - gram(b)).abs().mean() for a, b in zip(ours, theirs, strict=True))
        torch.testing.assert_close(value(objective(lambda_style=1), step), style, rtol=1e-4, atol=1e-8)
        content = (ours[1] - theirs[1]).abs().mean()
        torch.testing.assert_close(value(objective(lambda_content=1), step), content, rtol=1e-4, atol=1e-8)


def test_total_variation_by_hand(objective):
    step = new_step()
    x = step.fake.numpy()
    expected = (np.abs(np.diff(x, axis=2)).sum() + np.abs(np.diff(x, axis=3)).sum()) / len(x)
    assert value(objective(lambda_tv=1), step).item() == pytest.approx(expected, rel=1e-5)
    assert value(objective(lambda_tv=1), replace(step, fake=torch.full_like(step.fake, 0.3))) == 0


@pytest.mark.parametrize("side", [32, 20])
def test_wavelet_bands_equal_products_with_haars_matrix(objective, side):
    step = replace(new_step(), fake=random_images(4, side=side), taught=random_images(1, side=side))

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
    assert value(objective(lambda_wavelet=1), step).item() == pytest.approx(expected, rel=1e-4)


def test_haar_keeps_the_energy_and_leaves_flat_images_to_the_low_band(objective):
    x = random_images(0)
    torch.testing.assert_close(sum(band.square().sum() for band in haar(x)), x.square().sum())
    step = replace(new_step(), taught=x, fake=x + 0.5)
    assert value(objective(lambda_wavelet=1), step).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("scales", [1, 2])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_discriminator_features_by_hand(objective, paired, own, scales):
    step, judge, other = new_step(paired=paired), new_discriminator(paired, scales), new_discriminator(paired)
    if own:
        loss = value(objective(lambda_discriminator_features=1), step, judge)
    else:
        loss = value(objective(judge, lambda_discriminator_features=1), step, other)

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
    adversarial = value(objective(lambda_gan=3), step, judge)
    torch.testing.assert_close(adversarial, 3 * GAN_LOSSES["hinge"].generator(judge(shown)))
    goal = step.target if paired else step.taught
    torch.testing.assert_close(value(objective(lambda_recon=3), step), 3 * (step.fake - goal).abs().mean())


# Recipes


@pytest.mark.parametrize("key", ["lambda_style", "lambda_content"])
def test_losses_of_vgg19_need_its_weights(key):
    with pytest.raises(ValueError, match=rf"{key} 10 needs perceptual_weights.*or the word download"):
        DistillationRecipe(**{key: 10})


def test_a_recipe_without_any_loss_is_refused():
    with pytest.raises(ValueError, match=r"every weight .* is 0"):
        DistillationRecipe(**NONE)
    assert DistillationRecipe(**{**NONE, "lambda_wavelet": 1}).lambda_wavelet == 1


def test_a_teacher_without_discriminator_needs_one_that_is_trained():
    content = {
        "name": "x",
        "data": {"layout": "unpaired"},
        "student": {"space": "space.json"},
        "search": {"budget": 1e9},
        "distillation": {"lambda_discriminator_features": 1, "lambda_gan": 0},
    }
    assert Recipe.model_validate(content).distillation.lambda_gan == 0
    with pytest.raises(ValueError, match=r"needs distillation\.lambda_gan above 0"):
        Recipe.model_validate({**content, "teacher": {"checkpoint": "teacher.pth"}})


def test_intermediate_features_are_equation_2_of_gan_compression():
    """The sum, over the layers, of the mean square of what the mapped student and the teacher differ by."""
    learnt, taught = random_features(1, 4), random_features(2, 6)
    torch.manual_seed(3)
    mappings = [FeatureMapping(4, 6, 1) for _ in learnt]
    images = random_images(0)
    step = Step(images, images, False, images, images, learnt, taught, mappings)
    expected = 0.0
    for mapping, ours, theirs in zip(mappings, learnt, taught, strict=True):
        weight = mapping.weight.detach().double()[:, :, 0, 0]
        mapped = torch.einsum("oc,nchw->nohw", weight, ours.double()) + mapping.bias.detach().double()[:, None, None]
        expected += ((mapped - theirs.double()) ** 2).mean().item()
    assert MappedFeatures()(step).item() == pytest.approx(expected, rel=1e-5)
