import logging
import os
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ganc_nni.core.errors import TrainingError
from ganc_nni.training.checkpointing import (
    BEST,
    LAST,
    PREVIOUS,
    Checkpoints,
    Start,
    WholeCheckpoints,
    check_disk,
    find_start,
    read_whole,
)


def save(folder: Path, name: str, **content: object) -> Path:
    weights = {"state_dict": {"a": torch.arange(5000.0)}, "epoch": 3, **content}
    WholeCheckpoints().save_checkpoint(weights, folder / name)
    return folder / name


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    """In a tensor, which torch would load without a word."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(100.0, 110.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def put_zeros(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def something_else(path: Path) -> None:
    torch.save([1, 2], path)


DAMAGES = [cut_short, flip_a_bit, empty, put_zeros, something_else]


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for batches in range(4):
        save(tmp_path, LAST, goes_on=(1, batches))
    assert {path.name for path in tmp_path.iterdir()} == {LAST, PREVIOUS}
    assert find_start(tmp_path) == Start(tmp_path / LAST, 1, 3)
    (tmp_path / LAST).unlink()
    assert find_start(tmp_path) == Start(tmp_path / PREVIOUS, 1, 2)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_skipped(tmp_path: Path, damage, caplog: pytest.LogCaptureFixture) -> None:
    for batches in range(2):
        save(tmp_path, LAST, goes_on=(1, batches))
    damage(tmp_path / LAST)
    assert find_start(tmp_path) == Start(tmp_path / PREVIOUS, 1, 0)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{tmp_path / LAST}: is damaged (" in record.message
    assert "\n" not in record.message
    # the next one must not push the good one out
    save(tmp_path, LAST, goes_on=(1, 1))
    assert find_start(tmp_path) == Start(tmp_path / LAST, 1, 1)
    cut_short(tmp_path / LAST)
    assert find_start(tmp_path) == Start(tmp_path / PREVIOUS, 1, 0)


def test_the_best_is_the_last_resort(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, BEST, goes_on=(1, 0))
    for batches in (2, 3):
        save(tmp_path, LAST, goes_on=(1, batches))
    for name in (LAST, PREVIOUS):
        cut_short(tmp_path / name)
    assert find_start(tmp_path) == Start(tmp_path / BEST, 1, 0)
    cut_short(tmp_path / BEST)
    assert find_start(tmp_path) == Start()
    assert caplog.messages[-1] == f"{tmp_path}: no checkpoint there is whole; the training begins anew"


def test_an_empty_folder_begins_anew_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_start(tmp_path) == find_start(tmp_path / "missing") == Start()
    assert caplog.records == []


def test_checkpoints_of_earlier_versions_end_an_epoch(tmp_path: Path) -> None:
    save(tmp_path, LAST)
    assert find_start(tmp_path) == Start(tmp_path / LAST, 4, 0)


def test_what_a_kill_has_left_half_written_goes(tmp_path: Path) -> None:
    save(tmp_path, LAST)
    (tmp_path / f".{LAST}.x9_k.ckpt").write_bytes(b"half")
    (tmp_path / ".mine").touch()
    find_start(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {LAST, ".mine"}


def test_the_disk_that_is_needed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ganc_nni"):
        check_disk(tmp_path / "new", 3 * 2**20)
    assert "checkpoints of 3.0 MiB each, three that are kept and one while it is written, need 12.0 MiB" in caplog.text
    with pytest.raises(TrainingError, match=r"GiB of disk, [\d.]+ [MG]iB are free; make room on that disk"):
        check_disk(tmp_path, 2**60)


def test_what_is_there_already_is_not_needed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        save(tmp_path, LAST, more=torch.zeros(2**18))  # 1 MiB
    size = (tmp_path / LAST).stat().st_size
    with caplog.at_level(logging.INFO, "ganc_nni"):
        check_disk(tmp_path, size)
    assert f"need {2 * size / 2**20:.1f} MiB of disk" in caplog.text


class Scored(pl.LightningModule):
    """Learns nothing; each epoch has the score that it is told."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = scores
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight * batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("score", self.scores[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize(("higher_is_better", "best"), [(False, 2), (True, 1)])
def test_the_best_is_that_of_the_metric_s_direction(tmp_path: Path, higher_is_better: bool, best: int) -> None:
    module = Scored([3.0, 5.0, 1.0, 5.0, 1.0])  # of equals the first stays
    trainer = pl.Trainer(
        max_epochs=5,
        accelerator="cpu",
        plugins=[WholeCheckpoints()],
        callbacks=[Checkpoints(tmp_path, higher_is_better)],
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(torch.ones(2))
    trainer.fit(module, loader, loader)
    kept, last = (read_whole(tmp_path / name) for name in (BEST, LAST))
    assert kept["goes_on"] == (best + 1, 0, 1)
    assert last["goes_on"] == (5, 0, 1)
