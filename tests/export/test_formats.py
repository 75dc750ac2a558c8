"""Every format keeps to the contract that they share."""

import pytest
from deployables import deployable

from ganc_nni.core.errors import InputError
from ganc_nni.export import FORMATS, deploy
from ganc_nni.testing.formats import FormatConformance


class TestFormats(FormatConformance):
    members = tuple(FORMATS)


def test_a_format_that_there_is_not_is_refused_before_a_file_is_written(tmp_path):
    with pytest.raises(InputError, match="--formats: got 'onyx', which is not registered; did you mean onnx"):
        deploy(deployable("resnet"), ["onnx", "onyx"], tmp_path)
    assert list(tmp_path.iterdir()) == []
