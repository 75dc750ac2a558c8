"""What fails in a loader's process reads as if there were none; the processes are real."""

import multiprocessing
import os
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from images_on_disk import save_folder
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.data import Augmentation, ImageFileSet, PairedTrain
from ganc_nni.data.loading import loading


class Failing(Dataset[Tensor]):
    """Items of 256 kB; ``fail`` is called before each in a process of its own."""

    def __init__(self, fail: Callable[[], object]) -> None:
        self.fail = fail

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        assert get_worker_info() is not None
        self.fail()
        return torch.zeros(256, 256)


def use(dataset: Dataset, workers: int) -> None:
    loader = DataLoader(dataset, 2, num_workers=workers)
    with loading(workers):
        for _ in loader:
            pass


def test_a_damaged_image_has_one_message_with_any_number_of_processes(tmp_path: Path) -> None:
    paths = save_folder(tmp_path / "a", 4)
    paths[2].write_bytes(paths[2].read_bytes()[:99])
    images = ImageFileSet(paths, 3, (32, 32))
    train = PairedTrain(images, images, Augmentation((32, 32)))
    messages = []
    for workers in (0, 1, 2):
        with pytest.raises(InputError) as error:
            use(train, workers)
        messages.append(str(error.value))
    assert len(set(messages)) == 1
    assert messages[0].startswith(f"{paths[2]}: cannot be read as an image")
    assert "\n" not in messages[0]


def no_room() -> None:
    """What a file in /dev/shm may hold becomes little, as where it is small."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))


def no_memory() -> None:
    raise MemoryError


def trained_badly() -> None:
    raise TrainingError("the reason")


ENDS = {
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "one is killed by signal Killed"),
    "bus error, of a full /dev/shm": (lambda: os.kill(os.getpid(), signal.SIGBUS), "one is killed by signal Bus error"),
    "ended": (lambda: os._exit(3), "one exited unexpectedly"),
    "no shared memory": (no_room, "there is too little shared memory for their batches"),
    "no memory": (no_memory, "one ran out of memory"),
}


@pytest.mark.parametrize("end", ENDS)
def test_processes_that_end_are_told_in_one_line_with_the_cure(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch sets its handler of ended processes once, and Lightning takes it away after each fit
    monkeypatch.setattr(torch.utils.data._utils.signal_handling, "_SIGCHLD_handler_set", False)
    fail, told = ENDS[end]
    with pytest.raises(TrainingError, match=r"lower data.workers \(now 1; with 0 the training process loads") as error:
        use(Failing(fail), 1)
    assert str(error.value).startswith(f"the processes that load images: {told}")
    assert "\n" not in str(error.value)


def in_a_process(run: Callable[[], object]) -> str:
    """What a run in a process of its own ends with: its error, or nothing; "is still at work" after some seconds."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    if (process := os.fork()) == 0:
        signal.alarm(20)
        try:
            run()
            sender.send("")
        except BaseException as error:
            sender.send(f"{type(error).__name__}: {error}")
        finally:
            os._exit(0)
    sender.close()
    os.waitpid(process, 0)
    try:
        return receiver.recv()
    except EOFError:
        return "is still at work"


@pytest.mark.parametrize("hard", [20, 50, None])
def test_too_few_open_files_are_told_or_made_more_instead_of_waited_for(hard: int | None) -> None:
    def run() -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        allowed = before if hard is None else len(list(Path("/dev/fd").iterdir())) + hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 16, allowed))
        use(Failing(lambda: None), 2)

    told = in_a_process(run)
    if hard is None:
        assert told == ""
    else:
        assert re.fullmatch(
            r"TrainingError: the processes that load images: they need about \d+ open files, and \d+ are allowed; "
            r"lower data.workers \(now 2; .*\), or raise ulimit -n, and call again: what was finished is kept",
            told,
        )


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(TrainingError, match=r"^the reason$"):
        use(Failing(trained_badly), 1)
    with pytest.raises(ZeroDivisionError):
        use(Failing(lambda: 1 / 0), 1)
    for error in (RuntimeError("another"), MemoryError(), OSError(5, "Input/output error")):
        with pytest.raises(type(error)), loading(2):
            raise error
    with pytest.raises(TrainingError, match=r"could not be started \(Cannot allocate memory\)"), loading(2):
        raise OSError(12, "Cannot allocate memory")
    with pytest.raises(TrainingError, match=r"open files for their batches; .* or raise ulimit -n, and"), loading(2):
        raise RuntimeError("received 0 items of ancdata")
    with pytest.raises(OSError, match="Cannot allocate"), loading(0):
        raise OSError(12, "Cannot allocate memory")
