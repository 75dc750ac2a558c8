"""Times of a CUDA device."""

import time

import pytest
import torch
from latency_tables import BLUEPRINT
from tiny import CUDA, SIZE, search_space
from torch import nn

from ganc_nni.cost import blocks as timing
from ganc_nni.cost.blocks import Stopwatch, device_name
from ganc_nni.cost.latency_table import LatencyTable
from ganc_nni.cost.measure import COMPARED, TableMeasurement
from ganc_nni.generators.resnet import ResnetConfig
from ganc_nni.tools.benchmark.compare import Settings, Subject, compare

pytestmark = [*CUDA]
DEVICE = torch.device("cuda")


def test_events_measure_the_device_and_not_the_calls():
    """Kernels go on long after the calls that start them have returned."""
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Conv2d(256, 256, 3, padding=1) for _ in range(8))).eval().to(DEVICE)
    x = torch.rand(8, 256, 256, 256, device=DEVICE)
    stopwatch = Stopwatch(DEVICE, threads=1)
    assert stopwatch.clock == "CUDA events"
    with torch.inference_mode():
        network(x)
        torch.cuda.synchronize()
        start = time.perf_counter()
        (whole,) = stopwatch.measure(network, x, [0])
        outside = 1000 * (time.perf_counter() - start)
        parts = stopwatch.measure(network, x, range(8))
        start = time.perf_counter()
        network(x)
        called = 1000 * (time.perf_counter() - start)
        torch.cuda.synchronize()
    assert called < whole <= outside
    assert whole > 0.5 * outside
    assert len(parts) == 8
    assert sum(parts) == pytest.approx(whole, rel=0.3)
    assert not any(part._forward_pre_hooks for part in network.modules())


def test_a_table_can_be_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "PASSES", 1)
    monkeypatch.setattr(timing, "VISIT_MS", 0)
    space = search_space()
    name = device_name(DEVICE)
    table = TableMeasurement(BLUEPRINT, space, SIZE, DEVICE, name, repeats=2).run(tmp_path / "table.json")
    assert table == LatencyTable.load(tmp_path / "table.json")
    assert (table.device, table.clock) == (torch.cuda.get_device_name(), "CUDA events")
    assert len(table.comparisons) == COMPARED
    assert all(each.measured_ms > 0 and each.predicted_ms > 0 for each in table.comparisons)


def test_networks_are_compared_on_the_device():
    torch.manual_seed(0)
    config = ResnetConfig(n_blocks=3)
    subjects = [
        Subject(name, config, config.build([width] * 8).eval()) for name, width in (("wide", 64), ("narrow", 4))
    ]
    settings = Settings(size=(256, 256), batch=8, threads=1, warmup=3, repeats=5, device="cuda")
    wide, narrow = compare(subjects, ("channels_last",), settings)
    assert wide.failure is narrow.failure is None
    assert wide.speedup == 1
    assert wide.peak_mib > narrow.peak_mib > 8 * 3 * 256 * 256 * 4 / 2**20  # torch's tensors: at least its input
