"""Pictures: folders of files or drawn in process, split for training, search and test, and made into tensors."""

from ganc_nni.data.batch import Batch
from ganc_nni.data.build import Data, Split, build_data
from ganc_nni.data.folders import PairedTrain, Pictures, TrainSet, UnpairedTrain
from ganc_nni.data.images import list_images, read_image
from ganc_nni.data.pictures import PictureSet
from ganc_nni.data.procedural import ProceduralPictures
from ganc_nni.data.transforms import Augmentation, resize, to_tensor

__all__ = [
    "Augmentation",
    "Batch",
    "Data",
    "PairedTrain",
    "PictureSet",
    "Pictures",
    "ProceduralPictures",
    "Split",
    "TrainSet",
    "UnpairedTrain",
    "build_data",
    "list_images",
    "read_image",
    "resize",
    "to_tensor",
]
