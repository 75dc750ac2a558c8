"""Images and label maps: from files or drawn in process, split for training, search and test, as tensors."""

from ganc_nni.data.batch import Batch
from ganc_nni.data.build import Data, Split, build_data
from ganc_nni.data.encoding import IGNORE_ID, as_rgb, boundaries, colorize, decode, encode
from ganc_nni.data.folders import ImageFileSet, PairedTrain, TrainSet, UnpairedTrain
from ganc_nni.data.image_sets import ImageSet
from ganc_nni.data.images import list_images, read_image
from ganc_nni.data.label_files import LabelledFile, LabelScheme, read_ids
from ganc_nni.data.label_folders import find_labelled
from ganc_nni.data.labels import LabelFiles, LabelMaps
from ganc_nni.data.order import EpochOrder, drawing
from ganc_nni.data.procedural import ProceduralImages, ProceduralLabels
from ganc_nni.data.transforms import Augmentation, resize, to_tensor

__all__ = [
    "IGNORE_ID",
    "Augmentation",
    "Batch",
    "Data",
    "EpochOrder",
    "ImageFileSet",
    "ImageSet",
    "LabelFiles",
    "LabelMaps",
    "LabelScheme",
    "LabelledFile",
    "PairedTrain",
    "ProceduralImages",
    "ProceduralLabels",
    "Split",
    "TrainSet",
    "UnpairedTrain",
    "as_rgb",
    "boundaries",
    "build_data",
    "colorize",
    "decode",
    "drawing",
    "encode",
    "find_labelled",
    "list_images",
    "read_ids",
    "read_image",
    "resize",
    "to_tensor",
]
