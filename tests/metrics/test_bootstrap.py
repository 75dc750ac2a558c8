"""Intervals over images: what is drawn by weights is what scoring the drawn images would be."""

import math

import pytest
import torch

from ganc_nni.metrics import FrechetDistance, Gaussian, RandomFeatures, frechet, frechet_distance, kernel, segmentation
from ganc_nni.metrics.bootstrap import draws, interval
from ganc_nni.metrics.frechet import frechet_interval, paired_frechet_interval
from ganc_nni.metrics.kernel import kernel_distance, kernel_interval
from ganc_nni.metrics.segmentation import SegmentationScore
from ganc_nni.metrics.segmenters import Segmenter


@pytest.fixture
def redrawn(monkeypatch):
    """What a draw is scored by, once an interval was asked for."""
    kept = []

    def noted(score, count, scored, _, bounds):
        kept.append(scored)
        return interval(score, count, scored, 50, bounds)

    monkeypatch.setattr(frechet, "interval", noted)
    monkeypatch.setattr(segmentation, "interval", noted)
    return kept


def repeated(rows, weights):
    return rows.repeat_interleave(weights.long(), dim=0)


@pytest.mark.parametrize(("count", "dims", "real_count"), [(12, 30, 40), (40, 6, 50), (25, 20, 8)])
def test_a_draw_scores_as_the_drawn_images_do(redrawn, count, dims, real_count):
    random = torch.Generator().manual_seed(count)
    features = torch.randn(count, dims, generator=random) + 3
    real = Gaussian.from_features(torch.randn(real_count, dims, generator=random) * 2)
    found = frechet_interval(features, real)
    assert found.low <= frechet_distance(Gaussian.from_features(features), real) <= found.high
    for weights in draws(count, 5, seed=7):
        expected = frechet_distance(Gaussian.from_features(repeated(features, weights)), real)
        assert redrawn[0](weights) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("count", "dims"), [(12, 30), (40, 6)])
def test_a_draw_of_pairs_scores_as_the_drawn_pairs_do_and_spreads_less(redrawn, count, dims):
    random = torch.Generator().manual_seed(count)
    targets = torch.randn(count, dims, generator=random)
    features = targets + torch.randn(count, dims, generator=random) / 10
    found = paired_frechet_interval(features, targets)
    alone = frechet_interval(features, Gaussian.from_features(targets))
    assert found.low < frechet_distance(*map(Gaussian.from_features, (features, targets))) < found.high
    assert found.high - found.low < (alone.high - alone.low) / 2
    for weights in draws(count, 5, seed=7):
        drawn = [Gaussian.from_features(repeated(each, weights)) for each in (features, targets)]
        assert redrawn[0](weights) == pytest.approx(frechet_distance(*drawn), rel=1e-6)


def test_a_draw_by_the_kernel_makes_no_pair_of_an_image_with_itself(redrawn, monkeypatch):
    monkeypatch.setattr(kernel, "interval", frechet.interval)
    random = torch.Generator().manual_seed(2)
    a, b = torch.randn(8, 5, generator=random) + 1, torch.randn(9, 5, generator=random)
    found = kernel_interval(a, b)
    assert found.low < kernel_distance(a, b) < found.high
    assert redrawn[0](torch.ones(8).double()) == pytest.approx(kernel_distance(a, b))
    weights = torch.tensor([1, 1, 1, 0, 0, 0, 0, 5]).double()  # five copies: their ten pairs do not count
    pairs = [(i, j) for i in (0, 1, 2, 7) for j in (0, 1, 2, 7) if i != j]
    values = torch.stack([weights[i] * weights[j] * (a[i].double() @ a[j].double() / 5 + 1) ** 3 for i, j in pairs])
    own = values.sum() / sum(weights[i] * weights[j] for i, j in pairs)
    across = (weights @ (a.double() @ b.double().T / 5 + 1).pow(3).mean(dim=1)) / 8
    real = kernel._mean_of_pairs(b.double())
    assert redrawn[0](weights) == pytest.approx((own + real - 2 * across).item())


def segmented(score, count=6, by_image=True):
    random = torch.Generator().manual_seed(3)
    truth = torch.randint(3, (count, 16, 16), generator=random)
    truth[0] = 0  # a class alone
    images = torch.nn.functional.one_hot(truth, 3).permute(0, 3, 1, 2) * 2.0 - 1
    images += torch.randn(images.shape, generator=random) * 2
    segmenter = Segmenter(torch.nn.Identity(), "red, green, blue", classes=3)
    metric = SegmentationScore(segmenter, lambda i: truth[i % count], 255, score, by_image=by_image)
    return metric, images, truth, segmenter


@pytest.mark.parametrize(("score", "near"), [("miou", 1e-9), ("map", 0.02)])
def test_a_draw_of_label_maps_scores_as_the_drawn_images_do(redrawn, score, near):
    metric, images, truth, segmenter = segmented(score)
    metric.update(images, 0)
    found = metric.interval()
    assert 0 <= found.low < metric.compute() < found.high <= 1
    for weights in draws(len(images), 3, seed=1):
        drawn = repeated(truth, weights)
        again = SegmentationScore(segmenter, lambda i, drawn=drawn: drawn[i], 255, score)
        again.update(repeated(images, weights), 0)
        assert redrawn[0](weights) == pytest.approx(again.compute().item(), abs=near)


def test_only_what_is_kept_by_image_has_an_interval_and_it_does_not_change_the_score():
    kept, images, _, _ = segmented("map")
    other = segmented("map", by_image=False)[0]
    for metric in (kept, other):
        metric.update(images[:4], 0)
        metric.update(images[4:], 4)
    assert kept.figures() == other.figures()
    assert other.interval() is None
    kept.reset()
    assert kept.interval() is None


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(120):
        values = torch.randn(40, generator=random).double() + 10
        low, high = interval(
            float(values.mean()), 40, lambda w, v=values: float(w @ v / 40), 150, (-math.inf, math.inf)
        )
        hits += low <= 10 <= high
    assert 0.88 <= hits / 120 <= 0.99


def test_the_same_images_have_the_same_interval_more_have_a_narrower_one_and_a_thousand_none(monkeypatch):
    monkeypatch.setattr(frechet, "replicates", lambda count: 100)
    random = torch.Generator().manual_seed(5)
    extractor = RandomFeatures()
    real = Gaussian.from_features(torch.randn(200, extractor.dims, generator=random))
    metric = FrechetDistance(extractor, real)
    widths = []
    for count in (20, 200):
        metric.reset()
        metric.features.append(torch.randn(count, extractor.dims, generator=random) + 1)
        first = metric.interval()
        assert first == metric.interval()
        widths.append(first.high - first.low)
    assert widths[1] < widths[0] / 2
    metric.features.append(torch.zeros(800, extractor.dims))
    assert metric.interval() is None


@pytest.mark.parametrize("count", [2, 3])
def test_few_and_equal_images_have_an_interval(count):
    same = torch.ones(count, 4)
    found = frechet_interval(same, Gaussian.from_features(torch.randn(9, 4)))
    assert found.low == pytest.approx(found.high)
