"""An ONNX model's metadata are replaced, and nothing else changes; onnx itself is the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mlviews.errors import BadInputError
from mlviews.provenance.onnxfile import read_metadata, replace_metadata

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)


def model(**metadata: str) -> onnx.ModelProto:
    """Return a model y = x + w."""
    weight = numpy_helper.from_array(np.arange(1000, dtype=np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1000]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "add", ends[:1], ends[1:], [weight])
    made = helper.make_model(graph, producer_name="a test", opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(made, metadata)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(model(names="0: cat", **{"mlviews.lock": "an older one"}), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def told(made: onnx.ModelProto) -> dict[str, str]:
    assert len({entry.key for entry in made.metadata_props}) == len(made.metadata_props)
    return {entry.key: entry.value for entry in made.metadata_props}


@settings(max_examples=40)
@given(values=st.dictionaries(TEXTS.filter(bool), TEXTS, min_size=1, max_size=4))
def test_onnx_reads_what_was_written_and_all_else_is_as_it_was(path, values):
    values = {"mlviews.lock": "a" * 64, **values}
    path.chmod(0o640)
    replace_metadata(path, values)
    read = onnx.load(path)

    onnx.checker.check_model(read, full_check=True)
    assert values.items() <= told(read).items()
    assert values.items() <= read_metadata(path).items()
    assert told(read)["names"] == values.get("names", "0: cat")
    del read.metadata_props[:]
    assert read.SerializeToString(deterministic=True) == model().SerializeToString(deterministic=True)
    assert path.stat().st_mode & 0o777 == 0o640
    replace_metadata(path, dict.fromkeys(values, ""))
    onnx.save(model(names="0: cat"), path)


def test_written_twice_it_is_the_same_file(path):
    replace_metadata(path, {"mlviews.lock": "a" * 64})
    once = path.read_bytes()
    replace_metadata(path, {"mlviews.lock": "a" * 64})
    assert path.read_bytes() == once


def test_weights_beside_the_model_and_a_link_stay_what_they_are(tmp_path):
    """A model of more than 2 GB has its weights in files that it names by their path."""
    (tmp_path / "models").mkdir()
    large = model()
    onnx.save(large, tmp_path / "models/m.onnx", save_as_external_data=True, size_threshold=100, location="w.data")
    weights = tmp_path / "models/w.data"
    before = (weights.read_bytes(), weights.stat().st_mtime_ns)
    (tmp_path / "latest.onnx").symlink_to("models/m.onnx")

    replace_metadata(tmp_path / "latest.onnx", {"a": "b"})

    assert (weights.read_bytes(), weights.stat().st_mtime_ns) == before
    assert (tmp_path / "latest.onnx").is_symlink()
    assert told(onnx.load(tmp_path / "models/m.onnx")) == {"a": "b"}
    assert np.array_equal(
        numpy_helper.to_array(onnx.load(tmp_path / "models/m.onnx").graph.initializer[0]), range(1000)
    )
    assert sorted(entry.name for entry in (tmp_path / "models").iterdir()) == ["m.onnx", "w.data"]


@settings(max_examples=60)
@given(data=st.data())
def test_what_is_no_model_is_refused_and_left_alone(path, data):
    """Cut or damaged anywhere: it is told, or onnx reads the same from it; never another error, never another file."""
    whole = model(a="b").SerializeToString()
    where = data.draw(st.integers(0, len(whole) - 1))
    kept = data.draw(st.sampled_from([whole[:where], whole[:where] + b"\xff" + whole[where + 1 :], b"", b"PK\3\4"]))
    path.write_bytes(kept)
    try:
        replace_metadata(path, {"k": "v"})
    except BadInputError:
        assert path.read_bytes() == kept
    else:
        assert read_metadata(path)["k"] == "v"


@pytest.mark.parametrize("content", [b"", b"PK\3\4zip", b"\x08\x08", b"{}", b"\x7fELF", b"\x08\x08\x3a\xff\xff\x03x"])
def test_other_files_are_none(tmp_path: Any, content: bytes):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(BadInputError, match="is not an ONNX model"):
        read_metadata(tmp_path / "x.onnx")
    assert (tmp_path / "x.onnx").read_bytes() == content
