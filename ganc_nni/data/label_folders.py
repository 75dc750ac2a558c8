"""Where data sets keep their label maps, images and instance maps."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ganc_nni.core.errors import InputError
from ganc_nni.data.images import list_images, require_folders
from ganc_nni.data.label_files import LabelledFile
from ganc_nni.recipe import Structure


class LabelledSets(NamedTuple):
    """The files of a data set, sorted by name."""

    train: list[LabelledFile]
    test: list[LabelledFile]


def find_labelled(root: Path, structure: Structure, instances: bool) -> LabelledSets:
    """Find label maps with their images and, if asked for, their instance maps.

    Structures:
        folders: ``train_label/X.png``, ``train_img/X.jpg``, ``train_inst/X.png``, and the same for ``test_`` or, where
            there is no ``test_label``, ``val_``; any image ending.
        coco: the same with ``val_``, as NVlabs/SPADE arranges COCO-Stuff.
        cityscapes: as it is downloaded, ``gtFine/train/CITY/X_gtFine_labelIds.png``, ``X_gtFine_instanceIds.png``
            there and ``leftImg8bit/train/CITY/X_leftImg8bit.png``, and the same for ``val``.

    Raises:
        InputError: A folder is missing or empty, or a file has no partner; the message names it.
    """
    if structure == "cityscapes":
        names = [f"{kind}/{part}" for part in ("train", "val") for kind in ("gtFine", "leftImg8bit")]
        require_folders(root, names, "structure cityscapes")
        return LabelledSets(*(_cityscapes(root, part, instances) for part in ("train", "val")))
    val = structure == "coco" or ((root / "val_label").is_dir() and not (root / "test_label").is_dir())
    parts = "train", "val" if val else "test"
    kinds = ("label", "img", "inst") if instances else ("label", "img")
    notes = [] if val else ["val_ may stand for test_"]
    notes += ["data.instances: false needs no inst"] if instances else []
    names = [f"{part}_{kind}" for part in parts for kind in kinds]
    require_folders(root, names, f"structure {structure}", f" ({', '.join(notes)})" if notes else "")
    return LabelledSets(*(_flat(root, part, instances) for part in parts))


@dataclass(frozen=True)
class _Files:
    """Files of one kind, by what those that belong together have in common."""

    what: str
    folder: Path
    ending: str
    paths: dict[str, Path]


def _flat(root: Path, part: str, instances: bool) -> list[LabelledFile]:
    def files(what: str, kind: str) -> _Files:
        folder = root / f"{part}_{kind}"
        paths: dict[str, Path] = {}
        for path in list_images(folder):
            if other := paths.get(path.stem):
                raise InputError(f"{path}: has the same name as {other.name}; expected one of them; remove the other")
            paths[path.stem] = path
        return _Files(what, folder, ".*", paths)

    return _joined(
        files("label map", "label"), files("image", "img"), files("instance map", "inst") if instances else None
    )


def _cityscapes(root: Path, part: str, instances: bool) -> list[LabelledFile]:
    def files(what: str, kind: str, ending: str) -> _Files:
        folder = root / kind / part
        found = sorted(path for path in folder.glob(f"*/*{ending}") if not path.name.startswith("."))
        if not found:
            raise InputError(f"{folder}: holds no {what}; expected CITY/X{ending}; put the files of Cityscapes there")
        paths = {f"{path.parent.name}/{path.name.removesuffix(ending)}": path for path in found}
        return _Files(what, folder, ending, paths)

    return _joined(
        files("label map", "gtFine", "_gtFine_labelIds.png"),
        files("image", "leftImg8bit", "_leftImg8bit.png"),
        files("instance map", "gtFine", "_gtFine_instanceIds.png") if instances else None,
    )


def _joined(labels: _Files, images: _Files, instances: _Files | None) -> list[LabelledFile]:
    _require_partners(images, labels)
    _require_partners(labels, images)
    if instances is not None:
        _require_partners(labels, instances)
    return [
        LabelledFile(path, images.paths[name], instances.paths[name] if instances is not None else None)
        for name, path in sorted(labels.paths.items())
    ]


def _require_partners(files: _Files, others: _Files) -> None:
    lonely = [name for name in files.paths if name not in others.paths]
    if lonely:
        name, more = lonely[0], f" ({len(lonely)} files are like that)" if len(lonely) > 1 else ""
        raise InputError(
            f"{files.paths[name]}: has no {others.what}; expected {others.folder / name}{others.ending}{more}; add it, "
            f"or remove the {files.what}"
        )
