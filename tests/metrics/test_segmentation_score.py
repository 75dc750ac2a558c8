import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, jaccard_score
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAveragePrecision, MulticlassJaccardIndex

from ganc_nni.core.errors import InputError
from ganc_nni.metrics.segmentation import BINS, SegmentationScore, _resized, _tally, score_bins
from ganc_nni.metrics.segmenters import Segmenter

IGNORE = 255


class Palette(nn.Module):
    """Red, green and blue pixels are classes 0, 1 and 2; the logits are steep, or as wanted."""

    def __init__(self, steepness: float = 100.0) -> None:
        super().__init__()
        self.steepness = steepness

    def forward(self, images: Tensor) -> Tensor:
        return images * self.steepness


class Known(nn.Module):
    """The logits of every image are known beforehand; an image's first value says which it is."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[(images[:, 0, 0, 0] * 100).round().long()]


def painted(ids: Tensor) -> Tensor:
    """The image of a label map."""
    return nn.functional.one_hot(ids, 3).permute(0, 3, 1, 2) * 2.0 - 1


def colours(truth: list[Tensor] | Tensor, **options) -> SegmentationScore:
    return SegmentationScore(Segmenter(Palette(), "palette", 3), lambda i: truth[i], IGNORE, **options)


def numbered(count: int, height: int, width: int) -> Tensor:
    return (torch.arange(count) / 100).reshape(-1, 1, 1, 1).expand(-1, 3, height, width)


def noisy(classes: int = 5, count: int = 4, size: tuple[int, int] = (24, 20), seed: int = 0, sharp: float = 2.0):
    """Random logits that know something of a random truth, of which a tenth is void."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(classes, (count, *size), generator=generator)
    logits = torch.randn(count, classes, *size, generator=generator)
    logits += 1.2 * nn.functional.one_hot(truth, classes).permute(0, 3, 1, 2)
    truth[torch.rand(truth.shape, generator=generator) < 0.1] = IGNORE
    return logits * sharp, truth


def scored(logits: Tensor, truth: Tensor, batch: int = 3, **options) -> SegmentationScore:
    segmenter = Segmenter(Known(logits), "known", logits.shape[1])
    metric = SegmentationScore(segmenter, lambda i: truth[i], IGNORE, **options)
    for first in range(0, len(truth), batch):
        metric.update(numbered(len(truth), 8, 8)[first : first + batch], first)
    return metric


def flat(logits: Tensor, truth: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, prediction and scores ``N x classes`` of all pixels that count."""
    kept = truth != IGNORE
    scores = logits.softmax(1).permute(0, 2, 3, 1)[kept]
    return truth[kept].numpy(), logits.argmax(1)[kept].numpy(), scores.double().numpy()


def test_two_rows_of_three_pixels_by_hand() -> None:
    #           truth      predicted
    # row 0:    0 0 1      0 1 1
    # row 1:    1 2 void   1 0 2
    truth = torch.tensor([[[0, 0, 1], [1, 2, IGNORE]]])
    metric = colours(truth)
    metric.update(painted(torch.tensor([[[0, 1, 1], [1, 0, 2]]])), first=0)
    figures = metric.figures()

    # IoU: class 0: 1 right, 2 true, 2 shown: 1/3. Class 1: 2 right, 2 true, 3 shown: 2/3. Class 2: 0 right: 0.
    assert figures["miou"] == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert figures["pixel_accuracy"] == pytest.approx(3 / 5)
    assert figures["class_accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    # Scores are 0 or 1. Class 0: at score 1 precision 1/2 and recall 1/2, then all 5 pixels, 2 of them true.
    # Class 1: precision 2/3 and recall 1 at once. Class 2: nothing at score 1, then 1 of 5.
    first, second, third = 1 / 2 * 1 / 2 + 2 / 5 * 1 / 2, 2 / 3, 1 / 5
    assert figures["map"] == pytest.approx((first + second + third) / 3)
    assert metric.compute().item() == figures["miou"]
    assert metric.compute().dtype == torch.float64
    assert metric.compute().shape == ()


def test_a_class_counts_where_it_is_true_or_predicted() -> None:
    truth = torch.tensor([[[0, 0], [0, 0]]])
    metric = colours(truth)
    metric.update(painted(truth), first=0)
    assert metric.figures() == dict.fromkeys(("miou", "map", "pixel_accuracy", "class_accuracy"), 1.0)

    metric.reset()
    metric.update(painted(torch.tensor([[[0, 0], [0, 1]]])), first=0)
    figures = metric.figures()
    assert figures["miou"] == pytest.approx((3 / 4 + 0) / 2)
    assert figures["class_accuracy"] == pytest.approx(3 / 4)
    assert figures["map"] == pytest.approx(1.0)  # class 1 is not in the truth; of class 0 all pixels are


@pytest.mark.parametrize("seed", [0, 1])
def test_as_scikit_learn_has_it(seed: int) -> None:
    logits, truth = noisy(seed=seed)
    true, predicted, _ = flat(logits, truth)
    figures = scored(logits, truth).figures()

    assert figures["miou"] == pytest.approx(jaccard_score(true, predicted, average="macro"), abs=1e-12)
    assert figures["pixel_accuracy"] == pytest.approx(accuracy_score(true, predicted), abs=1e-12)
    assert figures["class_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted), abs=1e-12)


@pytest.mark.parametrize("sharp", [0.5, 2.0, 10.0])
def test_average_precision_is_scikit_learns_but_for_the_bins(sharp: float) -> None:
    logits, truth = noisy(sharp=sharp, size=(40, 40))
    true, _, scores = flat(logits, truth)
    expected = np.mean([average_precision_score(true == label, scores[:, label]) for label in range(5)])

    assert scored(logits, truth).figures()["map"] == pytest.approx(expected, abs=3e-3)


def test_classes_without_a_true_pixel_as_scikit_learn_has_them() -> None:
    logits, truth = noisy()
    truth[(truth == 3) | (truth == 4)] = 0
    logits[:, 4] -= 100  # neither true nor predicted; 3 is predicted only
    true, predicted, scores = flat(logits, truth)
    figures = scored(logits, truth).figures()

    assert figures["miou"] == pytest.approx(jaccard_score(true, predicted, average="macro"), abs=1e-12)
    assert 3 in predicted
    assert 4 not in predicted
    with warnings.catch_warnings():  # scikit-learn says that a predicted class is not in the truth
        warnings.simplefilter("ignore")
        assert figures["class_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted), abs=1e-12)
    expected = np.mean([average_precision_score(true == label, scores[:, label]) for label in range(3)])
    assert figures["map"] == pytest.approx(expected, abs=3e-3)


def test_as_torchmetrics_has_it_with_the_same_bins() -> None:
    logits, truth = noisy()
    metric = scored(logits, truth)
    # each score is replaced by the number of its bin, in [0, 1], so that both see the same scores
    precision = MulticlassAveragePrecision(5, thresholds=None, ignore_index=IGNORE)
    overlap = MulticlassJaccardIndex(5, ignore_index=IGNORE)
    precision.update(score_bins(logits.softmax(1)) / BINS, truth)
    overlap.update(logits, truth)

    assert metric.figures()["map"] == pytest.approx(precision.compute().item(), abs=1e-6)
    assert metric.figures()["miou"] == pytest.approx(overlap.compute().item(), abs=1e-6)


def test_bins_keep_the_order_of_scores_to_both_ends() -> None:
    odds = torch.linspace(-100, 40, 3001)
    bins = score_bins(odds.sigmoid())

    assert bins.dtype == torch.int32
    assert score_bins(torch.tensor([0.0, 1.0])).tolist() == [0, BINS - 1]
    assert (bins.diff() >= 0).all()
    inside = (odds > -86) & (odds < 10)
    assert (bins[inside].diff() > 0).all()


def test_batches_and_their_parts_change_nothing_and_reset_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, truth = noisy()
    metric = scored(logits, truth, batch=1)
    expected = metric.figures()
    assert all(scored(logits, truth, batch=batch).figures() == expected for batch in (2, 3, 4))
    monkeypatch.setattr("ganc_nni.metrics.segmentation._PIXELS_AT_ONCE", 2 * 8 * 8)  # two of the images
    assert scored(logits, truth, batch=4).figures() == expected

    metric.update(numbered(4, 8, 8)[:1], first=0)
    assert metric.figures() != expected
    metric.reset()
    metric.update(numbered(4, 8, 8), first=0)
    assert metric.figures() == expected


def test_ignored_pixels_may_hold_anything() -> None:
    logits, truth = noisy()
    other = logits.clone()
    other.permute(0, 2, 3, 1)[truth == IGNORE] = torch.tensor([9.0, -9, 0, 0, 3])

    assert scored(other, truth).figures() == scored(logits, truth).figures()


def test_a_class_may_be_the_ignored_id() -> None:
    truth = torch.tensor([[[0, 1, 2, 2]]])
    metric = SegmentationScore(Segmenter(Palette(), "palette", 3), lambda i: truth[i], ignore_id=2)
    metric.update(painted(torch.tensor([[[0, 1, 0, 1]]])), first=0)

    assert metric.figures()["miou"] == 1.0


def test_the_state_does_not_grow() -> None:
    def size(metric: SegmentationScore) -> int:
        return sum(getattr(metric, name).numel() for name in metric._defaults)

    logits, truth = noisy()
    metric = scored(logits[:1], truth[:1])
    once = size(metric)
    for _ in range(5):
        metric.update(numbered(1, 8, 8), first=0)
    assert size(metric) == once
    assert len(pickle.dumps(metric.metric_state)) < 1_000_000


def test_label_maps_of_different_sizes_in_a_batch() -> None:
    truth = [torch.tensor([[0, 1], [2, 0]]), torch.tensor([[1, 2]])]
    small = painted(torch.tensor([[[0, 1], [2, 0]], [[1, 2], [1, 2]]]))
    large = [truth[0].repeat_interleave(6, 0).repeat_interleave(10, 1), truth[1].repeat_interleave(20, 1)]
    for resizes in ("logits", "images"):
        metric = colours(large, resizes=resizes)
        metric.update(small, first=0)
        figures = metric.figures()
        assert metric.count == 2
        assert int(metric.confusion.sum()) == 12 * 20 + 40
        assert figures["miou"] > 0.9

    metric = colours(truth)
    metric.update(painted(torch.stack([map_[:6, :20] for map_ in (large[0][:, :20], large[0][:, :20])])), first=0)
    assert int(metric.confusion.sum()) == 4 + 2


@pytest.mark.parametrize("resizes", ["logits", "images"])
def test_what_is_resized(resizes: str) -> None:
    class Sizes(Palette):
        seen: list[tuple[int, int]]

        def forward(self, images: Tensor) -> Tensor:
            self.seen.append(tuple(images.shape[-2:]))
            assert images.abs().max() <= 1  # bicubic overshoots
            return super().forward(images)

    network = Sizes()
    network.seen = []
    truth = torch.zeros(2, 32, 48, dtype=torch.int64)
    segmenter = Segmenter(network, "sizes", 3, resizes=resizes)
    metric = SegmentationScore(segmenter, lambda i: truth[i], IGNORE)
    metric.update(painted(torch.randint(3, (2, 16, 24), generator=torch.Generator().manual_seed(0))), first=0)

    assert set(network.seen) == {(16, 24) if resizes == "logits" else (32, 48)}
    assert int(metric.confusion.sum()) == 2 * 32 * 48


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(7, 11), (16, 24), (40, 30)])
def test_resizing_is_pillow_s(mode: str, size: tuple[int, int]) -> None:
    images = torch.rand(1, 2, 16, 24, generator=torch.Generator().manual_seed(0))
    form = Image.Resampling[mode.upper()]
    expected = [np.array(Image.fromarray(each.numpy()).resize(size[::-1], form)) for each in images[0]]
    np.testing.assert_allclose(_resized(images, torch.Size(size), mode)[0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("score", ["miou", "map"])
def test_either_score_by_name(score: str) -> None:
    logits, truth = noisy()
    metric = scored(logits, truth, score=score)

    assert metric.compute().item() == metric.figures()[score]
    assert metric.higher_is_better is True


def test_better_images_score_higher() -> None:
    truth = torch.randint(3, (4, 16, 16), generator=torch.Generator().manual_seed(0))
    noise = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for score in ("miou", "map"):
        values = []
        for strength in (0.0, 0.5, 1.0, 2.0, 4.0):
            metric = SegmentationScore(Segmenter(Palette(1.0), "p", 3), lambda i: truth[i], IGNORE, score=score)
            metric.update(painted(truth) + strength * noise, first=0)
            values.append(metric.compute().item())
        assert values == sorted(values, reverse=True)
        assert values[0] == 1.0


def test_too_few_images_say_how_many() -> None:
    metric = colours(torch.zeros(3, 2, 2, dtype=torch.int64), min_images=4)
    metric.update(torch.zeros(3, 3, 2, 2), first=0)

    with pytest.raises(InputError, match="got 3 images to score; expected 4 or more"):
        metric.compute()
    with pytest.raises(InputError, match="got 3 images to score; expected 4 or more"):
        metric.figures()


def test_maps_without_a_label_say_so() -> None:
    metric = colours(torch.full((1, 2, 2), IGNORE))
    metric.update(torch.zeros(1, 3, 2, 2), first=0)

    with pytest.raises(InputError, match="no pixel of the 1 label maps has another label than 255"):
        metric.compute()


@pytest.mark.parametrize("wrong", [3, -1, 254])
def test_an_id_that_is_no_class_is_named(wrong: int) -> None:
    truth = torch.zeros(8, 2, 2, dtype=torch.int64)
    truth[7, 1, 0] = wrong
    metric = colours(truth)

    with pytest.raises(InputError, match=f"image 7 has id {wrong}; expected 0 to 2, .* palette, or 255"):
        metric.update(torch.zeros(2, 3, 2, 2), first=6)


def test_a_diverged_generator_is_named() -> None:
    metric = colours(torch.zeros(2, 2, 2, dtype=torch.int64))
    metric.update(torch.full((1, 3, 2, 2), float("nan")), first=0)
    metric.update(torch.zeros(1, 3, 2, 2), first=1)
    with pytest.raises(ValueError, match="NaN or infinite; has the generator diverged"):
        metric.compute()


def test_the_segmenter_is_shared_and_no_state() -> None:
    metric = colours(torch.zeros(4, 2, 2, dtype=torch.int64))
    metric.persistent(True)
    clone = metric.clone()
    clone.update(torch.zeros(4, 3, 2, 2), first=0)

    assert clone.segmenter is metric.segmenter
    assert int(metric.count) == 0
    assert not list(metric.modules())[1:]
    assert set(metric.state_dict()) == {"confusion", "scored", "hits", "count", "broken"}
    assert pickle.loads(pickle.dumps(clone.metric_state))["count"] == 4


def test_counting_without_waiting_is_the_same() -> None:
    """What CUDA does instead of ``bincount``."""
    cells = torch.randint(12, (1000,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    counted = torch.zeros(3, 4, dtype=torch.int64)
    _tally(counted, cells)
    scattered = counted.new_zeros(12).scatter_add_(0, cells.long(), torch.ones_like(cells, dtype=counted.dtype))
    assert torch.equal(counted, scattered.view(3, 4))
    _tally(counted, cells)
    assert torch.equal(counted, 2 * scattered.view(3, 4))
