"""Malformed files by the thousand: each is answered with one line or a right result, and nothing is half written.

``GANC_FUZZ=20000 pytest tests/test_fuzz.py`` tries more than the default; the order is the same each time.
"""

import contextlib
import copy
import csv
import hashlib
import io
import json
import logging
import math
import os
import signal
import socket
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from latency_tables import table_of
from PIL import Image
from safetensors.torch import load as load_safetensors
from tiny import SIZE, recipe, search_space, write_space
from tiny import settings as recipe_settings

from ganc_nni.core.errors import LONGEST_LINE, InputError, TrainingError
from ganc_nni.core.hashes import FileHashes
from ganc_nni.core.io import save_weights
from ganc_nni.core.widths import Widths
from ganc_nni.cost.latency_table import LatencyTable
from ganc_nni.data.images import read_image
from ganc_nni.data.label_files import LabelScheme
from ganc_nni.data.splits import pick_listed, split_by_list
from ganc_nni.export.files import read_files
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.resnet import ResnetConfig, ResnetGenerator
from ganc_nni.generators.space import SearchSpace
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.generators.unet import UnetGenerator
from ganc_nni.interop import read_generator
from ganc_nni.nnictl.trial import recipe_of
from ganc_nni.recipe import load_recipe
from ganc_nni.report.collect import collect, read_comparison
from ganc_nni.run import Run
from ganc_nni.search.journal import Evaluation, Journal
from ganc_nni.search.record import SearchRecord
from ganc_nni.stages.inputs import Content, Inputs
from ganc_nni.stages.pipeline import Pipeline

LONGEST = 20
"""Seconds after which a reader counts as blocked."""

SAMPLE = dict.fromkeys(search_space().choices, 4)

TOKENS = [
    *(bytes([byte]) for byte in b"\x00\x01\x1b\x7f\x80\xff\n\r\t \"'{}[]:,#&*!-|>%/"),
    *(b"NaN", b"-Infinity", b"1e999", b"null", b"true", b"-1", b"0", b"9" * 70, b"9" * 5000, b"0x" + b"f" * 400),
    *(b"[" * 300, b'{"a":' * 300, b"&a [*a]", b"<<: *a", b"!!python/object:os.system", b"--- ", b"../", b"/etc/passwd"),
    *(b"\x1b]0;title\x07", "\u202e".encode(), "\ufeff".encode(), b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"e\xcc\x81"),
    *(b"PK\x03\x04", b"\x80\x02}", b"IDAT", b"cos\nsystem\n", b"\xff\xd8\xff\xe0", b"\0" * 64, b"x" * 3000),
]

VALUES = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 10**70, 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf),
    *("", "4", "x", "../../etc/passwd", "/etc/passwd", "a\nb", "\x1b[31m", "\u202egnp", "\x00", "x" * 3000, "~", "1e3"),
    *([], {}, [4], [None], {"a": 1}, [[]], {"": {}}, {"_type": "choice", "_value": [4]}, [4] * 300),
]


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def places(tree, path=()):
    """Every place in a JSON value."""
    yield path
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


def structure_changed(draw, content, dump):
    """The content with one to three values, keys or orders changed, as ``dump`` writes it."""
    tree = yaml.safe_load(content)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(tree))))
        kind = draw(st.sampled_from(["value", "value", "value", "remove", "rename", "add", "deep", "swap"]))
        value = (
            copy.deepcopy(draw(st.sampled_from(VALUES))) if kind != "deep" else deep(draw(st.sampled_from([40, 60])))
        )
        if not path:
            tree = value if kind in ("value", "deep") else tree
            continue
        *outer, key = path
        parent = tree
        for step in outer:
            parent = parent[step]
        if kind == "remove":
            del parent[key]
        elif kind == "rename" and isinstance(parent, dict):
            parent[draw(st.sampled_from(["", "x", "down_0", "\x1b", "é", "a" * 300, "../x"]))] = parent.pop(key)
        elif kind == "add" and isinstance(parent, dict):
            parent[draw(st.sampled_from(["", "name", "x\ny", "score"]))] = value
        elif kind == "swap" and isinstance(parent, dict):
            other = draw(st.sampled_from(list(parent)))
            parent[key], parent[other] = parent[other], parent[key]
        else:
            parent[key] = value
        if not isinstance(tree, dict | list):
            break
    text = dump(tree)
    if draw(st.booleans()) and ":" in text:  # a key that comes twice
        first = text.index(":") + 1
        text = text[:first].replace("{", '{"schema_version": 1, ', 1) + text[first:]
    return text.encode("utf-8", "surrogatepass")


def bytes_changed(draw, content):
    """The content with one to four places damaged."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.sampled_from([1, 1, 2, 8, 64, 1000]))
        kind = draw(
            st.sampled_from(["flip", "flip", "cut", "insert", "insert", "overwrite", "remove", "twice", "zeros"])
        )
        if kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + draw(st.sampled_from(TOKENS)) + content[at:]
        elif kind == "overwrite":
            token = draw(st.sampled_from(TOKENS))
            content = content[:at] + token + content[at + len(token) :]
        elif kind == "remove":
            content = content[:at] + content[at + length :]
        elif kind == "twice":
            content = content[: at + length] + content[at:]
        else:
            content = content[:at] + bytes(min(length, len(content) - at)) + content[at + length :]
    return content


def lines_changed(draw, content):
    """One line of several changed in its structure, the others as they are."""
    lines = content.splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    lines[at] = structure_changed(draw, lines[at], json.dumps)
    return b"\n".join(lines) + b"\n"


STRUCTURES = {
    "JSON": lambda draw, content: structure_changed(draw, content, json.dumps),
    "YAML": lambda draw, content: structure_changed(draw, content, yaml.safe_dump),
    "lines": lines_changed,
    "binary": bytes_changed,
}


@st.composite
def malformed(draw, content, kind):
    change = draw(st.sampled_from([STRUCTURES[kind], lambda draw, content: bytes_changed(draw, content)]))
    return change(draw, content)


def same(told, found):
    """Whether a value is what a file says."""
    if told is None or found is None:
        return told is found
    if isinstance(found, dict):
        return (
            isinstance(told, dict)
            and {str(key) for key in told} <= {str(key) for key in found}
            and all(
                same(value, next(each for name, each in found.items() if str(name) == str(key)))
                for key, value in told.items()
            )
        )
    if isinstance(found, list | tuple):
        return (
            isinstance(told, list | tuple)
            and len(told) == len(found)
            and all(same(*pair) for pair in zip(told, found, strict=True))
        )
    if isinstance(told, bool) or isinstance(found, bool):
        return told is found
    if isinstance(found, int | float) and isinstance(told, str):  # YAML reads 1e-3 as text
        with contextlib.suppress(ValueError):
            return same(float(told), found)
    if isinstance(found, float) and isinstance(told, int | float):  # the nearest one, where a whole number is long
        return float(told) == found or (math.isnan(told) and math.isnan(found))
    return told == found


def as_told(found, content):
    """What a reader has made of a text is what any reader makes of it."""
    assert same(yaml.safe_load(content) if content.lstrip()[:1] != b"{" else loads(content), found)


def loads(content):
    return json.loads(content.decode("utf-8-sig", "surrogatepass"))


class Target:
    """One kind of file: how an intact one is made, and what reads it.

    Attributes:
        name: Of the file, below the folder of the test.
        kind: Of its content, see STRUCTURES.
        optional: Whether a file that is not there is no mistake.
    """

    name = "a.json"
    kind = "JSON"
    optional = False

    def write(self, folder):
        """Write the intact file, and what is needed next to it."""
        raise NotImplementedError

    def read(self, folder):
        """What the package makes of it."""
        raise NotImplementedError

    def right(self, found, intact, content):
        """Check what was accepted: it is what the intact file says, or what the changed content says."""
        as_told(found, content)


class Space(Target):
    def write(self, folder):
        write_space(folder / self.name)

    def read(self, folder):
        return {label: list(widths) for label, widths in SearchSpace.load(folder / self.name).choices.items()}

    def right(self, found, intact, content):
        told = loads(content)
        assert {label: sorted(set(entry["_value"])) for label, entry in told.items()} == found
        assert all(type(width) is int and width > 0 for entry in told.values() for width in entry["_value"])


class ArchitectureFile(Target):
    def write(self, folder):
        Architecture(
            config=ResnetConfig(n_blocks=3, separable=True),
            space=search_space().choices,
            sample=SAMPLE,
            config_str="_".join(["4"] * len(SAMPLE)),
            image_size=SIZE,
            macs_published=12345,
            macs_true=1234,
            params=321,
            metrics={"fid/search": 12.5},
            provenance={"recipe": "tiny", "evaluations": 3},
        ).save(folder / self.name)

    def read(self, folder):
        architecture = Architecture.load(folder / self.name)
        network = architecture.network() if max(architecture.widths.values()) < 100 else None
        assert network is None or sum(value.numel() for value in network.parameters()) > 0
        return architecture.model_dump(mode="json")


class Latency(Target):
    def write(self, folder):
        table_of(search_space(), 0).save(folder / self.name)

    def read(self, folder):
        table = LatencyTable.load(folder / self.name)
        assert math.isfinite(table.at(table.smallest()[1]))
        return table.model_dump(mode="json")


class RecipeFile(Target):
    name, kind = "a.recipe.yml", "YAML"

    def write(self, folder):
        (folder / self.name).write_text(yaml.safe_dump(recipe_settings("space.json")))

    def read(self, folder):
        return load_recipe(folder / self.name).model_dump(mode="json")


class ExperimentFile(Target):
    name, kind = "a.yml", "YAML"

    def write(self, folder):
        (folder / self.name).write_text("tuner: {codeDirectory: .., classArgs: {recipe: tiny.recipe.yml}}\n")

    def read(self, folder):
        return str(recipe_of(folder / self.name))

    def right(self, found, intact, content):
        assert str(Path(yaml.safe_load(content)["tuner"]["classArgs"]["recipe"])) == found


class StageRecord(Target):
    name, optional = "runs/tiny/teacher/stage.json", True

    def write(self, folder):
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"key": "ab" * 32, "seconds": 1.5, "fid": 12.5, "peak_memory_mib": {"cpu": 20.5}}))

    def read(self, folder):
        pipeline = Pipeline(Run(recipe("space.json")))
        pipeline.figures("teacher")
        return pipeline.record("teacher")


class CollectedStage(StageRecord):
    def read(self, folder):
        found = collect(folder / "runs" / "tiny").stages
        return {stage: each.model_dump(mode="json") for stage, each in found.items()}

    def right(self, found, intact, content):
        as_told(found["teacher"], content)


class Files(Target):
    name, optional = "files.json", True

    def write(self, folder):
        (folder / "a.onnx").write_bytes(b"x")
        entry = {"format": "onnx", "channels": 3, "image_size": [32, 32], "opset": 18}
        (folder / self.name).write_text(json.dumps({"a.onnx": entry, "gone.onnx": entry}))

    def read(self, folder):
        found = read_files(folder)
        assert all(isinstance(each, dict) and (folder / name).is_file() for name, each in found.items())
        assert all(Path(name).name == name for name in found)
        return found

    def right(self, found, intact, content):
        told = loads(content)
        assert all(told[name] == each for name, each in found.items())


class ComparisonFile(Target):
    name, optional = "export/summary.json", True

    def write(self, folder):
        (folder / "export").mkdir(exist_ok=True)
        network = {"macs_published": 10, "macs_true": 9, "params": 8, "score": 1.5, "latency_ms": 2.5}
        chosen = {"search": 1.0, "mean": 1.1, "stdev": None}
        content = {"metric": "fid", "test_pictures": 8, "image_size": [32, 32], "chosen": chosen, "remarks": {}}
        networks = {"teacher": network, "compressed": network}
        (folder / self.name).write_text(json.dumps({**content, "networks": networks}))

    def read(self, folder):
        found = read_comparison(folder)
        assert found is not None
        assert len(found.rows()) > 3
        return found.model_dump(mode="json")

    def right(self, found, intact, content):
        told = loads(content)
        assert same({key: told[key] for key in found if key in told and key != "networks"}, found)


class InputsFile(Target):
    name, optional = "inputs.json", True

    def write(self, folder):
        files = {"train images": [Content("a.png", "ab" * 32)], "student.space": [Content("space.json", "cd" * 32)]}
        inputs = Inputs({"data.flip": True, "teacher.width": 8, "data.image_size": [32, 32]}, files)
        inputs.save(folder / self.name, "the key", {"teacher.safetensors": "ef" * 32})

    def read(self, folder):
        found = Inputs.load(folder / self.name, "the key")
        if found is None:
            return None
        found.changes(Inputs({"data.flip": False}))
        files = {role: [list(each) for each in contents] for role, contents in found.files.items()}
        return {"key": "the key", "values": dict(found.values), "files": files, "made": dict(found.made)}

    def right(self, found, intact, content):
        if found is not None:
            told = loads(content)
            assert told["key"] == "the key"
            assert same(told["values"], found["values"])
            assert {role: [str(each[1]) for each in files] for role, files in told["files"].items()} == {
                role: [each[1] for each in files] for role, files in found["files"].items()
            }


class HashesFile(Target):
    name, kind, optional = "hashes.json", "binary", True

    def write(self, folder):
        paths = [folder / "a.png", folder / "b.png"]
        for path in paths:
            path.write_bytes(path.name.encode())
            os.utime(path, (1e9, 1e9))
        hashes = FileHashes(folder / self.name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ganc_nni.core.hashes.SETTLED", -3600.0)
            hashes.of(paths)

    def read(self, folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ganc_nni.core.hashes.SETTLED", -3600.0)  # the files of the test are young
            return FileHashes(folder / self.name).of([folder / "a.png", folder / "b.png"])

    def right(self, found, intact, content):
        assert found == [hashlib.sha256(name).hexdigest() for name in (b"a.png", b"b.png")]


class JournalFile(Target):
    kind, optional = "lines", True
    name = f"runs/tiny/search/journal/{socket.gethostname()}.jsonl"
    evaluations = tuple(Evaluation(Widths({**SAMPLE, "up_0": width}), 20.0 - width, 1.0) for width in (4, 8))

    def write(self, folder):
        write_space(folder / "space.json")
        (folder / self.name).parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(each.content()) for each in self.evaluations]
        (folder / self.name).write_text("\n".join(lines) + "\n")

    def read(self, folder):
        journal = Journal((folder / self.name).parent, search_space().choices)
        return [each.content() for each in journal.read().values()]

    def right(self, found, intact, content):
        lines = [line for line in content.split(b"\n") if line.strip()]
        for each in found:
            assert math.isfinite(each["score"] or 0)
            assert all(type(width) is int and width in (4, 8) for width in each["sample"].values())
            assert any(same(told, each) for line in lines if (told := self._value(line)) is not None)
        for each in map(Evaluation.content, self.evaluations):  # no whole line is lost
            if json.dumps(each).encode() in lines:
                assert each["sample"] in [other["sample"] for other in found]

    @staticmethod
    def _value(line):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(line)


class SearchedJournal(JournalFile):
    run = None

    def read(self, folder):
        if SearchedJournal.run is None:
            SearchedJournal.run = Run(recipe("space.json"))
            SearchedJournal.run.budget.figures(SAMPLE)
        (folder / "runs/tiny/architecture.json").unlink(missing_ok=True)
        if self.name.endswith("jsonl"):
            (folder / "runs/tiny/search/trials.csv").unlink(missing_ok=True)
        record = SearchRecord(SearchedJournal.run, "fid")
        record.publish()
        if record.best is not None:
            assert Architecture.load(folder / "runs/tiny/architecture.json").metrics == {
                "fid/search": record.best.score
            }
        table = folder / "runs/tiny/search/trials.csv"
        if table.is_file() and table.stat().st_size < 1 << 20:
            assert len(list(csv.DictReader(io.StringIO(table.read_text())))) == len(record.evaluations)
        return [each.content() for each in record.evaluations]


class Trials(SearchedJournal):
    kind, name = "binary", "runs/tiny/search/trials.csv"

    def write(self, folder):
        write_space(folder / "space.json")
        (folder / "runs/tiny/search").mkdir(parents=True, exist_ok=True)
        labels, widths = ",".join(SAMPLE), ",".join(["4"] * len(SAMPLE))
        (folder / self.name).write_text(
            f"trial,config_str,{labels},score,seconds,message\n0,{widths.replace(',', '_')},{widths},16.5,1.0,\n"
        )

    def right(self, found, intact, content):
        for each in found:
            assert each["score"] is None or math.isfinite(each["score"])
            assert set(each["sample"].values()) <= {4, 8}


class ListFile(Target):
    name, kind = "a.meta", "binary"
    names = ("0.png", "1.png", "a photo.png", "é.png")

    def write(self, folder):
        (folder / self.name).write_text("# chosen\n1.png\na photo.png\n")

    def read(self, folder):
        paths = [folder / "images" / name for name in self.names]
        (split,) = split_by_list(folder / self.name, paths)
        assert sorted([*split.train, *split.search]) == sorted(paths)
        assert pick_listed(folder / self.name, paths) == [path for path in paths if path in split.search]
        return [path.name for path in split.search]

    def right(self, found, intact, content):
        lines = {line.strip() for line in content.decode("utf-8-sig").splitlines()}
        assert set(found) == {line for line in lines if line and not line.startswith("#")}


class PngImage(Target):
    name, kind = "a.png", "binary"

    def write(self, folder):
        self._image().save(folder / self.name)

    def read(self, folder):
        return np.asarray(read_image(folder / self.name, 3))

    def right(self, found, intact, content):
        assert np.array_equal(found, intact)  # its checksums tell all other content

    @staticmethod
    def _image():
        shades = np.random.default_rng(0).integers(0, 200, (12, 10, 3), dtype=np.uint8)
        shades[3:9] = 7
        return Image.fromarray(shades)


class OtherImage(PngImage):
    """A format without checksums: what Pillow shows is right, where it shows anything."""

    def __init__(self, ending):
        self.name = f"a.{ending}"

    def right(self, found, intact, content):
        with Image.open(io.BytesIO(content)) as image:
            size, mode = image.size, image.mode
            if mode == "RGB" and not image.getexif():
                assert np.array_equal(found, np.asarray(image.convert("RGB")))
        assert found.shape in ((*size[::-1], 3), (*size, 3))


class LabelMap(PngImage):
    def write(self, folder):
        ids = np.random.default_rng(1).integers(0, 4, (12, 10)).astype(np.uint8)
        Image.fromarray(ids).save(folder / self.name)

    def read(self, folder):
        return LabelScheme(4, 255).read(folder / self.name)


class Checkpoint(Target):
    """A generator in a file; ``wrap`` lays it into what a training saves."""

    kind = "binary"

    def __init__(self, name, wrap=None, network=lambda: ResnetGenerator([4] * 8, n_blocks=2), legacy=False):
        self.name, self.wrap, self.network, self.legacy = name, wrap, network, legacy
        self.has_checksums = name.endswith(".pth") and not legacy

    def write(self, folder):
        torch.manual_seed(0)
        weights = self.network().state_dict()
        if self.wrap is None:
            save_weights(folder / self.name, weights)
        else:
            torch.save(self.wrap(weights), folder / self.name, _use_new_zipfile_serialization=not self.legacy)

    def read(self, folder):
        file = read_generator(folder / self.name)
        assert all(bool(torch.isfinite(value.float()).all()) for value in file.weights.values())
        return file.config, file.widths, {key: value.clone() for key, value in file.weights.items()}

    def right(self, found, intact, content):
        assert found[:2] == intact[:2]
        if self.has_checksums:
            assert found[2].keys() == intact[2].keys()
            assert all(torch.equal(found[2][key], intact[2][key]) for key in intact[2])
        elif self.name.endswith("safetensors"):
            told = {value.numpy().tobytes() for value in load_safetensors(content).values()}
            assert all(value.numpy().tobytes() in told for value in found[2].values())


def of_data_parallel(weights):
    return {f"module.{key}": value for key, value in weights.items()}


TARGETS = {
    "search space": Space(),
    "architecture": ArchitectureFile(),
    "latency table": Latency(),
    "recipe": RecipeFile(),
    "experiment": ExperimentFile(),
    "stage.json": StageRecord(),
    "stage.json in a report": CollectedStage(),
    "files.json": Files(),
    "summary.json": ComparisonFile(),
    "inputs.json": InputsFile(),
    "hashes.json": HashesFile(),
    "journal": JournalFile(),
    "journal of a search": SearchedJournal(),
    "trials.csv": Trials(),
    "list": ListFile(),
    "PNG": PngImage(),
    "JPEG": OtherImage("jpg"),
    "TIFF": OtherImage("tif"),
    "BMP": OtherImage("bmp"),
    "WebP": OtherImage("webp"),
    "PPM": OtherImage("ppm"),
    "label map": LabelMap(),
    "safetensors": Checkpoint("a.safetensors"),
    "state dict": Checkpoint("a.pth", dict),
    "state dict of DataParallel": Checkpoint("b.pth", of_data_parallel),
    "Lightning's checkpoint": Checkpoint("c.pth", lambda weights: {"epoch": 3, "state_dict": weights}),
    "legacy checkpoint": Checkpoint("d.pth", dict, legacy=True),
    "U-Net": Checkpoint("u.safetensors", network=lambda: UnetGenerator([4] * 9, n_downs=5)),
    "SPADE": Checkpoint("s.safetensors", network=lambda: SpadeGenerator([4] * 8, 5, upsampling="normal")),
}

EACH = -(-int(os.environ.get("GANC_FUZZ", "2400")) // len(TARGETS))
"""Malformed contents for each target."""


class Messages(logging.Handler):
    def __init__(self):
        super().__init__()
        self.found = []

    def emit(self, record):
        self.found.append(record.getMessage())


class Blocked(BaseException):
    """A reader waits for ever; no Exception, which readers turn into a line."""


@contextlib.contextmanager
def no_longer(seconds):
    """Fail instead of waiting for ever."""

    def stop(*_):
        raise Blocked(f"is still reading after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tree_of(folder):
    """Every entry below a folder, with its bytes where it is a small file of its own."""
    found = {}
    for path in folder.rglob("*"):
        mode, size = path.lstat().st_mode, path.lstat().st_size
        found[path] = path.read_bytes() if stat.S_ISREG(mode) and size < 1 << 24 else (mode, size)
    return found


WRITTEN = {"trials.csv", "architecture.json", "pareto.csv", "hashes.json"}
"""What readers write, whole."""


def outcome(target, folder):
    """What a reader made of the folder; None if it has refused it in a line. Looks at all that must always hold."""
    before, messages = tree_of(folder), Messages()
    logger = logging.getLogger("ganc_nni")
    logger.addHandler(messages)
    told, found = "", None
    try:
        with no_longer(LONGEST), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = target.read(folder)
    except (InputError, TrainingError) as error:
        told = str(error)
        assert told
        assert told.isprintable()
        assert len(told) <= LONGEST_LINE
    finally:
        logger.removeHandler(messages)
    assert all(len(each) <= LONGEST_LINE for each in messages.found)
    after = tree_of(folder)
    changed = {path.name for path in {*before, *after} if before.get(path) != after.get(path)}
    assert changed <= WRITTEN
    return found if not told else None


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("GANC_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    write_space(tmp_path / "space.json")
    monkeypatch.setattr(SearchedJournal, "run", None)
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*overly large repr.*")
@pytest.mark.parametrize("name", TARGETS)
def test_a_malformed_file_is_one_line_or_read_right(name, place):
    target = TARGETS[name]
    target.write(place)
    path, tried = place / target.name, 0
    content = path.read_bytes()
    intact = outcome(target, place)
    assert intact is not None
    target.right(intact, intact, content)

    @settings(
        max_examples=EACH,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(malformed(content, target.kind))
    def try_one(changed):
        nonlocal tried
        tried += 1
        path.write_bytes(changed)
        found = outcome(target, place)
        if found is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, which reads the changed content once more
                target.right(found, intact, changed)

    try_one()
    assert tried >= EACH


def test_there_are_enough_of_them():
    assert EACH * len(TARGETS) >= 2000


def as_folder(path, content):
    path.mkdir()


def as_pipe(path, content):
    os.mkfifo(path)


def as_loop(path, content):
    path.symlink_to(path.name)


def as_dangling(path, content):
    path.symlink_to("nowhere")


def as_zeros(path, content):
    path.symlink_to("/dev/zero")


def as_link(path, content):
    other = path.with_name(f"other{path.suffix}")
    other.write_bytes(content)
    path.symlink_to(other.name)


def as_nothing(path, content):
    pass


def as_empty(path, content):
    path.touch()


INSTEAD = (as_folder, as_pipe, as_loop, as_dangling, as_zeros, as_link, as_nothing, as_empty)


@pytest.mark.parametrize("put", INSTEAD)
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "trials.csv"])
def test_what_is_no_such_file_is_one_line_too(name, put, place):
    target = TARGETS[name]
    target.write(place)
    path = place / target.name
    content = path.read_bytes()
    intact = outcome(target, place)
    target.write(place)
    path.unlink()
    put(path, content)
    if target.optional:  # another answer than a line is as good, if it ends
        with contextlib.suppress(AssertionError) if put is not as_link else contextlib.nullcontext():
            outcome(target, place)
        return
    found = outcome(target, place)
    assert (found is not None) == (put is as_link)
    if found is not None:
        target.right(found, intact, content)
