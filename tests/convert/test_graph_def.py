"""Constants out of frozen graphs, against protocol buffers' own writer."""

import numpy as np
import pytest
from tensorboardX.proto.graph_pb2 import GraphDef

from diffusion.convert.graph_def import TYPES, read

DTYPES = {number: np.dtype(kind.dtype) for number, kind in TYPES.items()}
LISTS = {
    **{"<f4": "float_val", "<f8": "double_val", "<i8": "int64_val", "|b1": "bool_val", "<f2": "half_val"},
    **dict.fromkeys(("<i4", "|u1", "<i2", "|i1"), "int_val"),
}


def graph(**constants) -> GraphDef:
    """A graph with other nodes before and after the constants; each is a function that fills in a TensorProto."""
    message = GraphDef()
    message.node.add(name="before", op="Placeholder").attr["dtype"].type = 1
    for name, fill in constants.items():
        node = message.node.add(name=name, op="Const", device="/cpu:0")
        node.attr["dtype"].type = 1
        fill(node.attr["value"].tensor)
    message.node.add(name="after", op="Conv2D", input=["before", *constants])
    message.versions.producer = 21
    return message


def shaped(tensor, number, shape):
    tensor.dtype = number
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)


def content(array, number):
    def fill(tensor):
        shaped(tensor, number, array.shape)
        tensor.tensor_content = array.tobytes()

    return fill


def listed(array, number):
    def fill(tensor):
        shaped(tensor, number, array.shape)
        bits = array.view(np.uint16) if array.dtype == np.float16 else array
        getattr(tensor, LISTS[DTYPES[number].str]).extend(bits.reshape(-1).tolist())

    return fill


def written(path, message):
    path.write_bytes(message.SerializeToString())
    return path


def refusal(path) -> str:
    with pytest.raises(ValueError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


@pytest.mark.parametrize("number", DTYPES)
def test_numbers_of_every_type_come_back(tmp_path, rng, number):
    array = (rng.standard_normal((2, 3, 4)) * 50).astype(DTYPES[number])
    message = graph(
        bytes_=content(array, number),
        listed=listed(array, number),
        scalar=listed(array[0, 0, 0], number),
        none=content(array[:0], number),
    )
    found = read(written(tmp_path / "g.pb", message))
    assert found.keys() == {"bytes_", "listed", "scalar", "none"}
    for name in ("bytes_", "listed"):
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert found["scalar"].shape == () and found["scalar"] == array[0, 0, 0]
    assert found["none"].shape == (0, 3, 4)


def test_lists_may_be_written_one_by_one(tmp_path):
    """Old writers do not pack lists: each value has its own tag (5, four bytes: 0x2d)."""
    value = np.array([1.5, -2.0], np.float32)
    tensor = b"\x08\x01" + b"\x12\x04\x12\x02\x08\x02" + b"".join(b"\x2d" + v.tobytes() for v in value)
    attribute = b"\x0a\x05value\x12" + bytes([len(tensor) + 2]) + b"\x42" + bytes([len(tensor)]) + tensor
    node = b"\x0a\x01x\x12\x05Const\x2a" + bytes([len(attribute)]) + attribute
    (tmp_path / "g.pb").write_bytes(b"\x0a" + bytes([len(node)]) + node)
    np.testing.assert_array_equal(read(tmp_path / "g.pb")["x"], value)


def test_one_value_stands_for_all(tmp_path):
    def fill(tensor):
        shaped(tensor, 1, (3, 4))
        tensor.float_val.append(2.5)

    np.testing.assert_array_equal(read(written(tmp_path / "g.pb", graph(x=fill)))["x"], np.full((3, 4), 2.5))


def test_constants_that_are_no_numbers_are_left_out(tmp_path):
    def text(tensor):
        shaped(tensor, 7, (1,))
        tensor.string_val.append(b"label")

    message = graph(text=text, x=content(np.ones(3, np.float32), 1))
    assert read(written(tmp_path / "g.pb", message)).keys() == {"x"}


THREE = np.ones(3, np.float32).tobytes()


def test_graphs_that_contradict_themselves_are_refused(tmp_path):
    def fill(shape, values=THREE):
        def inner(tensor):
            shaped(tensor, 1, shape)
            tensor.tensor_content = values

        return graph(x=inner)

    for message in (fill((4,)), fill((2,)), fill((3,), values=b"1234567"), fill((-1,)), fill((2**40, 2**40))):
        refusal(written(tmp_path / "g.pb", message))
    assert "no constants" in refusal(written(tmp_path / "g.pb", graph()))
    for data in (b"", b"x", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a" + b"\xff" * 20, b"\x0b", b"\x02abc", bytes(50)):
        (tmp_path / "g.pb").write_bytes(data)
        refusal(tmp_path / "g.pb")


def test_cut_and_changed_files_give_arrays_or_a_line(tmp_path, rng):
    message = graph(x=content(np.arange(8, dtype=np.float32), 1), y=listed(np.arange(5, dtype=np.int32), 3))
    data = message.SerializeToString()
    path = tmp_path / "g.pb"
    last = len(data) - message.versions.ByteSize() - 2  # what follows the nodes is not read
    refused = 0
    for i in range(1000):
        changed = bytearray(data[: rng.integers(1, last)] if i % 2 else data)
        for at in rng.integers(0, len(changed), rng.integers(0, 3) if i % 2 else 2):
            changed[at] = rng.integers(256)
        path.write_bytes(changed)
        try:
            assert all(isinstance(array, np.ndarray) for array in read(path).values())
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 200
