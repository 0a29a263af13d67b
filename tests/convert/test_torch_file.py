"""PyTorch checkpoints: valid ones give their tensors, others one error line, and no code in them runs."""

import pickle
import warnings
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.convert.torch_file import read
from tests.support.limits import refusal_within_limits
from tests.support.torch_files import (
    REBUILD,
    STORAGES,
    SYSTEM,
    Built,
    Call,
    Name,
    Persistent,
    Pickler,
    Raw,
    View,
    write_legacy,
    write_zip,
)

WRITERS = pytest.mark.parametrize("write", [write_legacy, write_zip])
ORDERED = Name("collections", "OrderedDict")


def refusal(path) -> str:
    """The message of the ValueError, which is one line that names the file."""
    with pytest.raises(ValueError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < len(str(path)) + 400
    return message


@WRITERS
@pytest.mark.parametrize("dtype", STORAGES, ids=STORAGES.values())
def test_values_of_every_type_come_back(tmp_path, rng, write, dtype):
    array = (rng.standard_normal((3, 2, 5)) * 20).astype(dtype)
    found = read(write(tmp_path / "a.pt", {"x": array, "scalar": array[:1, 0, 0].reshape(()), "none": array[:0]}))
    wide = np.dtype(np.float32) if dtype == jnp.bfloat16 else dtype
    assert {name: (a.dtype, a.shape) for name, a in found.items()} == {
        "x": (wide, (3, 2, 5)),
        "scalar": (wide, ()),
        "none": (wide, (0, 2, 5)),
    }
    np.testing.assert_array_equal(found["x"], array.astype(wide))
    np.testing.assert_array_equal(found["scalar"], array[0, 0, 0].astype(wide))


@WRITERS
def test_strides_and_offsets_are_honoured_and_memory_is_shared(tmp_path, write):
    storage = np.arange(24, dtype=np.float32)
    views = {
        "transposed": View(storage, 0, (6, 4), (1, 6)),
        "part": View(storage, 7, (2, 3), (6, 2)),
        "last": View(storage, 23, (1,), (99,)),
        "empty": View(storage, 24, (0, 5), (5, 1)),
        "scalar": View(storage, 3, (), ()),
    }
    found = read(write(tmp_path / "a.pt", views))
    np.testing.assert_array_equal(found["transposed"], storage.reshape(4, 6).T)
    np.testing.assert_array_equal(found["part"], [[7, 9, 11], [13, 15, 17]])
    np.testing.assert_array_equal(found["last"], [23])
    assert found["empty"].shape == (0, 5) and found["scalar"] == 3
    assert np.shares_memory(found["transposed"], found["part"])
    assert not any(array.flags.writeable for array in found.values())


@WRITERS
def test_dictionaries_are_flattened_and_other_things_left_out(tmp_path, write):
    one, two = np.ones(2, np.float32), np.full(3, 2, np.float32)
    state = Built(Call(ORDERED, ()), {"_metadata": Call(ORDERED, ())})
    inner = Raw(Pickler().code(state))
    parameter = Call(Name("torch._utils", "_rebuild_parameter"), (two, True, Call(ORDERED, ())))
    value = {
        "model": {"a.b": one, "c": {"d": parameter}},
        "old": Call(ORDERED, ([["x", one], ("y", two)],)),
        "empty": inner,
        **{"step": 7, "rate": 1e-4, "name": "n", "flag": True, "nothing": None, "list": [1, two], 3: {4: one}},
    }
    found = read(write(tmp_path / "a.pt", value))
    assert found.keys() == {"model.a.b", "model.c.d", "old.x", "old.y", "3.4"}
    np.testing.assert_array_equal(found["model.c.d"], two)
    np.testing.assert_array_equal(found["old.x"], one)


NUMBERS = np.arange(6, dtype=np.float32)
BAD_TENSORS = {
    "beyond": View(NUMBERS, 1, (6,), (1,)),
    "far beyond": View(NUMBERS, 0, (2,), (2**62,)),
    "beyond by 2^64 bytes, which wraps to 0": View(NUMBERS, 0, (2**32 + 1,), (2**30,)),
    "too far": View(NUMBERS, 2**70, (1,), (1,)),
    "offset beyond": View(NUMBERS, 6, (1,), (1,)),
    "negative stride": View(NUMBERS, 5, (3,), (-1,)),
    "negative offset": View(NUMBERS, -1, (3,), (1,)),
    "negative size": View(NUMBERS, 0, (-3,), (1,)),
    "absurd": View(NUMBERS, 0, (10**9, 10**9), (10**9, 1)),
    "absurd and empty": View(NUMBERS, 0, (2**62, 2**62, 0), (1, 1, 1)),
    "ranks differ": View(NUMBERS, 0, (2, 3), (1,)),
    "too many axes": View(NUMBERS, 0, (1,) * 65, (1,) * 65),
    "float size": View(NUMBERS, 0, (2.0,), (1,)),
    "more items than there are": View(NUMBERS, 0, (7,), (1,), 7),
    "an absurd storage": View(NUMBERS, 0, (7,), (1,), 2**60),
    "no storage": Call(REBUILD, (3, 0, (1,), (1,), False, None)),
    "too few arguments": Call(REBUILD, (3,)),
    "unknown storage": Call(REBUILD, (Persistent(("storage", ORDERED, "0", "cpu", 6)), 0, (1,), (1,), False, None)),
    "unknown kind": Call(
        REBUILD, (Persistent(("module", Name("torch", "FloatStorage"), "0", "cpu", 6)), 0, (1,), (1,), False, None)
    ),
    "no key": Call(
        REBUILD, (Persistent(("storage", Name("torch", "FloatStorage"), 0, "cpu", 6)), 0, (1,), (1,), False, None)
    ),
    "no tuple": Persistent(3),
    "a view of a storage": Call(
        REBUILD,
        (
            Persistent(("storage", Name("torch", "FloatStorage"), "0", "cpu", 6, ("1", 4, 2))),
            0,
            (1,),
            (1,),
            False,
            None,
        ),
    ),
}


@WRITERS
@pytest.mark.parametrize("name", BAD_TENSORS)
def test_tensors_that_cannot_be_are_refused(tmp_path, write, name):
    assert read(write(tmp_path / "good.pt", {"x": NUMBERS})).keys() == {"x"}
    refusal(write(tmp_path / "bad.pt", {"good": NUMBERS, "bad": BAD_TENSORS[name]}))


class Touch:
    """What a hostile pickle is made of: unpickled by Python, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


NAMES = (
    "os system",
    "builtins eval",
    "builtins getattr",
    "posix system",
    "numpy.core.multiarray _reconstruct",
    "a b.c",
)


@WRITERS
@pytest.mark.parametrize("text", NAMES)
def test_names_that_are_no_tensors_are_refused(tmp_path, write, text):
    module, name = text.split(" ")
    hostile = Call(Name(module, name), (f"touch {tmp_path / 'made'}",))
    assert f"{module}.{name}" in refusal(write(tmp_path / "a.pt", {"x": NUMBERS, "y": hostile}))
    assert not (tmp_path / "made").exists()


@WRITERS
@pytest.mark.parametrize("protocol", range(5))
def test_code_in_pickles_does_not_run(tmp_path, write, protocol):
    made = tmp_path / "made"
    hostile = pickle.dumps(Touch(made), protocol)
    pickle.loads(hostile).close()
    assert made.exists()  # it would have
    made.unlink()
    code = hostile.removeprefix(b"\x80" + bytes([protocol])).removesuffix(b".")
    refusal(write(tmp_path / "a.pt", {"x": NUMBERS, "y": Raw(code)}))
    (tmp_path / "bare.pt").write_bytes(hostile)
    refusal(tmp_path / "bare.pt")
    refusal(write_legacy(tmp_path / "first.pt", {"x": NUMBERS}, magic=Raw(code)))
    assert not made.exists()


@WRITERS
def test_nothing_of_ours_can_be_changed_by_a_pickle(tmp_path, write):
    hook = Call(Name("torch._utils", "_rebuild_parameter"), (3,))
    for what in (ORDERED, REBUILD):
        for state in ((None, {"__code__": 3, "__defaults__": (1, 2)}), {"update": 3}):
            assert read(write(tmp_path / "a.pt", {"x": NUMBERS, "y": Built(what, state), "z": hook})).keys() == {"x"}
    np.testing.assert_array_equal(read(write(tmp_path / "c.pt", {"x": NUMBERS}))["x"], NUMBERS)
    refusal(write(tmp_path / "d.pt", {"x": NUMBERS, "y": Call(Name("torch", "FloatStorage"), ())}))


TRIPLED = b"0".join([b"}q\x00", *(b"}(K\x01h%cK\x02h%cK\x03h%cuq%c" % (i, i, i, i + 1) for i in range(15))])
LOOP = Raw(b"}q\x00(X\x01\x00\x00\x00ah\x00u")
ODD = {
    "a dictionary in itself": LOOP,
    "dictionaries that triple": Raw(TRIPLED),
    "a key that is a tuple": {(1, 2): 3},
    "a key of a mark that is a tuple": Raw(b"(K\x01\x85K\x02d"),
    "a set": Raw(b"\x8f"),
    "a key that is a list": Raw(b"}(](K\x01eK\x02u"),
    "a key without a value": Raw(b"}(K\x01u"),
    "an empty stack": Raw(b"000000"),
    "no mark": Raw(b"u"),
    "unknown memory": Raw(b"h\xfe"),
    "pairs that are none": Call(ORDERED, ([1, 2],)),
    "an append to a dictionary": Raw(b"}K\x01a"),
    "an instance": Raw(b"(cos\nsystem\no"),
    "an extension": Raw(b"\x82\x01"),
    "a call of a number": Raw(b"K\x01)R"),
    "no text in a name": Raw(b"K\x01K\x02\x93"),
    "bytes without end": Raw(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f"),
    "a number without end": Raw(b"\x8b\xff\xff\xff\x7f"),
    "text that is none": Raw(b"X\x02\x00\x00\x00\xff\xfe"),
}


@WRITERS
@pytest.mark.parametrize("name", ODD)
def test_odd_pickles_are_refused(tmp_path, write, name):
    refusal(write(tmp_path / "a.pt", {"x": NUMBERS, "y": ODD[name]}))


@WRITERS
@pytest.mark.parametrize("value", [{}, {"a": 1}, {"a": {"b": {}}}, [NUMBERS], NUMBERS, None, 3])
def test_what_holds_no_dictionary_of_tensors_is_refused(tmp_path, write, value):
    refusal(write(tmp_path / "a.pt", value))


def test_other_kinds_of_file_are_refused(tmp_path):
    value = {"x": NUMBERS}
    assert "compressed" in refusal(write_zip(tmp_path / "a.pt", value, zipfile.ZIP_DEFLATED))
    assert "big-endian" in refusal(write_zip(tmp_path / "b.pt", value, byteorder=b"big"))
    assert "big-endian" in refusal(write_legacy(tmp_path / "c.pt", value, SYSTEM | {"little_endian": False}))
    assert "magic" in refusal(write_legacy(tmp_path / "d.pt", value, magic=5))
    with zipfile.ZipFile(tmp_path / "e.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("b/data.pkl", b"")
    assert "2 entries" in refusal(tmp_path / "e.pt")
    np.savez(tmp_path / "f.npz", x=NUMBERS)
    assert "0 entries" in refusal(tmp_path / "f.npz")
    for content in (b"", b"x", b"PK\x03\x04", b"\x80\x02", b"\x80\x02}.", bytes(1000), b"ustar" * 200):
        (tmp_path / "g.pt").write_bytes(content)
        refusal(tmp_path / "g.pt")
    with pytest.raises(OSError):
        read(tmp_path / "not there")


VALUE = {"a": np.arange(40, dtype=np.float32).reshape(5, 8), "b": {"c": np.arange(9, dtype=np.int64)}, "n": 3}


@WRITERS
def test_every_cut_is_noticed(tmp_path, write):
    content = write(tmp_path / "a.pt", VALUE).read_bytes()
    for length in range(0, len(content), 3):
        (tmp_path / "a.pt").write_bytes(content[:length])
        refusal(tmp_path / "a.pt")


@WRITERS
def test_changed_bytes_give_arrays_or_a_line(tmp_path, rng, write):
    content = write(tmp_path / "a.pt", VALUE).read_bytes()
    refused = 0
    for _ in range(600):
        changed = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 4)):
            changed[at] = rng.integers(256)
        (tmp_path / "a.pt").write_bytes(changed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # zipfile warns of names that come twice
                assert all(isinstance(array, np.ndarray) for array in read(tmp_path / "a.pt").values())
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


def stored(key):
    """A tensor whose storage has this key."""
    where = Persistent(("storage", Name("torch", "FloatStorage"), key, "cpu", 6))
    return Call(REBUILD, (where, 0, (1,), (1,), False, None))


DEEP = b")" + b"\x85" * 2_000_000
SHALLOWER = b")" + b"\x85" * 400_000
SHARED = b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(40))
LONG = b"X" + (5_000_000).to_bytes(4, "little") + b"a" * 5_000_000 + b"q\x00"
CALLED = b"](" + b"](K\x01K\x02e" * 100_000 + b"e\x85q\x02ccollections\nOrderedDict\nq\x03"
LONG_ID = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06" + b"N" * 500_000 + b"tq\x01"
HOSTILE = {
    "a persistent id of nested tuples": {"x": Raw(DEEP + b"Q")},
    "a persistent id of fewer nested tuples": {"x": Raw(SHALLOWER + b"Q")},
    "a storage key of nested tuples": {"x": stored(Raw(SHALLOWER))},
    "a key of nested tuples": {"x": NUMBERS, "y": Raw(b"}" + SHALLOWER + b"K\x01s")},
    "keys of nested tuples": {"x": NUMBERS, "y": Raw(b"}(K\x01K\x01" + SHALLOWER + b"K\x01u")},
    "a memorised key of nested tuples": {"x": NUMBERS, "y": Raw(b"](" + SHALLOWER + b"q\x00}h\x00K\x01se")},
    "a key in pairs": {"x": NUMBERS, "y": Call(ORDERED, ([[Raw(SHALLOWER), 1]],))},
    "tuples shared 40 deep": {"x": NUMBERS, "y": Raw(b"](" + SHARED + b"}h(K\x01se")},
    "a storage key of shared tuples": {"x": Raw(b"](" + SHARED + b"e"), "y": stored(Raw(b"h("))},
    "a memo index of millions": {"y": Raw(b"K\x01r\x00\x00\x00\x04")},
    "calls on one long list": {"x": NUMBERS, "y": Raw(b"](" + CALLED + b"h\x03h\x02R" * 1_000 + b"e")},
    "persistent ids of one long tuple": {"x": NUMBERS, "y": Raw(b"](" + LONG_ID + b"h\x01Q" * 1_000 + b"e")},
    "a name of megabytes in many dictionaries": {
        "x": Raw(b"](" + LONG + b"e"), "y": {i: {Raw(b"h\x00"): NUMBERS} for i in range(200)}},
    "lists in lists": [Raw(b"]" * 400_000 + b"a" * 399_999)],
    "dictionaries in dictionaries": {"x": NUMBERS, "y": Raw(b"}K\x01" * 300_000 + b"N" + b"s" * 300_000)},
    "calls in calls": Raw((b"ccollections\nOrderedDict\n" + b")RK\x01") * 100_000 + b"N" + b"s" * 100_000),
}  # fmt: skip


@pytest.mark.parametrize(
    ("write", "name"), [(write_legacy, name) for name in HOSTILE] + [(write_zip, name) for name in list(HOSTILE)[:4]]
)
def test_hostile_pickles_end_in_a_line_within_time_and_memory(tmp_path, write, name):
    message = refusal_within_limits("diffusion.convert.torch_file.read", write(tmp_path / "a.pt", HOSTILE[name]))
    assert message.startswith(str(tmp_path / "a.pt"))


@pytest.mark.parametrize("keys", [["0", Raw(SHALLOWER)], Raw(b"](" + SHARED + b"e")], ids=["nested", "shared"])
def test_hostile_keys_of_storages_end_in_a_line(tmp_path, keys):
    path = write_legacy(tmp_path / "a.pt", {"x": NUMBERS}, keys=keys)
    refusal_within_limits("diffusion.convert.torch_file.read", path)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_written_by_pytorch(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    x = torch.randn(4, 6)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))
    value = {
        "model": module.state_dict(),
        "parameters": dict(module.named_parameters()),
        "views": {"t": x.t(), "part": x[1:3, ::2], "whole": x, "scalar": x[0, 0], "empty": x[:0]},
        "types": {str(d)[6:]: (x * 30).to(d) for d in (torch.float16, torch.float64, torch.int8, torch.bool)},
        "bfloat16": x.to(torch.bfloat16),
        "optimizer": torch.optim.Adam(module.parameters()).state_dict(),
        "step": 7,
    }
    torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "a.pt")
    assert {name.split(".")[0] for name in found} == {"model", "parameters", "views", "types", "bfloat16"}
    assert len(found) == 7 + 4 + 5 + 4 + 1
    for name, array in found.items():
        branch, *rest = name.split(".", 1)
        tensor = value[branch][rest[0]] if rest else value[branch]
        np.testing.assert_array_equal(array, (tensor.float() if not rest else tensor).detach().numpy(), err_msg=name)
