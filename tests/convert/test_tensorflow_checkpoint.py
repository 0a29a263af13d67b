"""TensorFlow checkpoints, from a writer of the format written here, and what happens to broken ones."""

import struct

import numpy as np
import pytest

from diffusion.convert import ddpm_tf, name_mapping, tensorflow_checkpoint
from diffusion.convert.tensorflow_checkpoint import open_bundle
from diffusion.nets.unet import UNet
from tests.support.limits import refusal_within_limits
from tests.support.naming import foreign, made_up

# ---------------------------------------------------------------------------------------------------- a writer


def remainder(crc):
    for _ in range(8):
        crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc


TABLE = [remainder(byte) for byte in range(256)]


def crc32c(data):
    """CRC-32C by a table of bytes, from its definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(crc):
    """LevelDB's mask, written out in bits: the lowest 15 go to the front, then a constant is added modulo 2^32."""
    bits = f"{crc:032b}"
    return (int(bits[-15:] + bits[:-15], 2) + 2726488792) % 2**32


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def block(pairs, every=4):
    """A block whose keys share prefixes, with a restart after every few."""
    out, restarts, last = bytearray(), [], b""
    for i, (key, value) in enumerate(pairs):
        shared = 0
        if i % every == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(pairs, per_block=7, compression=0):
    out, index = bytearray(), []

    def put(content):
        where = varint(len(out)) + varint(len(content))
        trailer = bytes([compression])
        out.extend(content + trailer + struct.pack("<I", masked(crc32c(content + trailer))))
        return where

    for first in range(0, len(pairs), per_block):
        part = pairs[first : first + per_block]
        index.append((part[-1][0] + b"\0", put(block(part))))
    meta, top = put(block([])), put(block(index, 1))
    footer = meta + top
    return bytes(out) + footer + bytes(40 - len(footer)) + struct.pack("<Q", 0xDB4775248B80FB57)


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}


def write_bundle(prefix, tensors, shards=1, compression=0, endianness=0, **changes):
    """A checkpoint; `changes` replace fields of the entry named "x"."""
    data = [bytearray() for _ in range(shards)]
    pairs = [(b"", field(1, shards) + field(2, endianness) * endianness + field(3, field(1, 1)))]
    for i, name in enumerate(sorted(tensors)):
        value = np.asarray(tensors[name], order="C")
        raw, shard = value.tobytes(), i % shards
        shape = b"".join(field(2, field(1, size)) for size in value.shape)
        given = dict(dtype=NUMBERS[value.dtype.name], offset=len(data[shard]), size=len(raw), crc=crc32c(raw), slices=0)
        given |= changes if name == "x" else {}
        entry = field(1, given["dtype"]) + field(2, shape) + (field(3, shard) if shard else b"")
        entry += (field(4, given["offset"]) if given["offset"] else b"") + field(5, given["size"])
        entry += varint(6 << 3 | 5) + struct.pack("<I", masked(given["crc"]))
        entry += field(7, b"") * given["slices"]
        pairs.append((name.encode(), entry))
        data[shard] += raw
    prefix.with_name(prefix.name + ".index").write_bytes(table(pairs, compression=compression))
    for shard, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(bytes(content))
    return prefix


# ---------------------------------------------------------------------------------------------------- checksums


def test_checksums_are_those_of_another_writer(rng):
    """The published values are those of RFC 3720, B.4; tensorboardX writes the same masked checksums."""
    from tensorboardX.record_writer import masked_crc32c

    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"\xff" * 32) == 0x62A8AB43
    for data in (b"", b"123456789", rng.bytes(1000)):
        assert tensorflow_checkpoint._checksum(data) == masked(crc32c(data)) == masked_crc32c(data)


# ---------------------------------------------------------------------------------------------------- reading


def some(rng, n=40):
    tensors = {f"model/down_{i // 9}/block_{i % 9}/W": rng.standard_normal((i % 4, 3)).astype("f4") for i in range(n)}
    return tensors | {
        "x": rng.standard_normal((2, 3, 5)),
        "global_step": np.int64(790_000),
        "counts": np.arange(300, dtype=np.int32),
        "half": rng.standard_normal(3).astype("f2"),
    }


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("suffix", ["", ".index", ".meta", ".data-00000-of-00001"])
def test_every_tensor_is_read_by_any_name_of_the_checkpoint(tmp_path, rng, shards, suffix):
    tensors = some(rng)
    prefix = write_bundle(tmp_path / "model.ckpt-790000", tensors, shards)
    bundle = open_bundle(prefix.with_name(prefix.name + suffix))
    assert bundle.entries.keys() == tensors.keys()
    for name, value in tensors.items():
        read = bundle.read(name)
        assert read.shape == np.shape(value) and read.dtype == np.asarray(value).dtype
        assert np.array_equal(read, value)


def test_keys_of_more_than_one_varint_byte_and_many_blocks(tmp_path, rng):
    tensors = {"m/" + "long/" * 60 + f"{i:03d}": rng.standard_normal(2) for i in range(50)}
    bundle = open_bundle(write_bundle(tmp_path / "c", tensors))
    assert all(np.array_equal(bundle.read(name), value) for name, value in tensors.items())


# ---------------------------------------------------------------------------------------------------- broken files


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"crc": 1}, "the checksum of x is wrong"),
        ({"size": 16}, "the checksum of x is wrong"),
        ({"offset": 10**9}, "is cut short: x needs"),
        ({"dtype": 7}, "x is text, partitioned, or of a type"),
        ({"slices": 1}, "x is text, partitioned"),
    ],
)
def test_a_damaged_entry_is_refused_when_read(tmp_path, rng, changes, line):
    bundle = open_bundle(write_bundle(tmp_path / "c", some(rng), **changes))
    assert bundle.read("counts").sum() == 299 * 150
    with pytest.raises(ValueError, match=line) as error:
        bundle.read("x")
    assert one_line(error)


def test_a_flipped_bit_in_the_data_is_found(tmp_path, rng):
    prefix = write_bundle(tmp_path / "c", some(rng))
    path = tmp_path / "c.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[open_bundle(prefix).entries["x"].offset + 100] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match="checksum of x is wrong"):
        open_bundle(prefix).read("x")


def test_missing_files_are_named(tmp_path, rng):
    with pytest.raises(ValueError, match=r"c\.index: no such file"):
        open_bundle(tmp_path / "c")
    prefix = write_bundle(tmp_path / "c", some(rng))
    (tmp_path / "c.data-00000-of-00001").unlink()
    with pytest.raises(ValueError, match="data-00000-of-00001 is missing"):
        open_bundle(prefix).read("x")


def test_every_cut_and_every_flipped_byte_of_an_index_is_refused_in_one_line(tmp_path, rng):
    """The magic number, the checksums and the bounds leave no byte unguarded but the footer's padding."""
    prefix = write_bundle(tmp_path / "c", {"x": rng.standard_normal(3), "y": rng.standard_normal(3)})
    path = tmp_path / "c.index"
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError) as error:
            open_bundle(prefix)
        assert one_line(error)
    unguarded = 0
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :])
        try:
            open_bundle(prefix)
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            unguarded += 1
    statistics = len(block([])) + tensorflow_checkpoint.TRAILER
    assert unguarded <= 40 + statistics  # padding, and the block of statistics, which is not read


def test_big_endian_numbers_are_refused(tmp_path, rng):
    with pytest.raises(ValueError, match="its numbers are big-endian"):
        open_bundle(write_bundle(tmp_path / "c", some(rng), endianness=1))


def test_compression_is_refused(tmp_path, rng):
    prefix = write_bundle(tmp_path / "c", some(rng), compression=1)
    with pytest.raises(ValueError, match="a block is compressed"):
        open_bundle(prefix)


@pytest.mark.parametrize("content", [b"", b"x" * 47, b"PK\x03\x04" + bytes(200), bytes(48)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "c.index").write_bytes(content)
    with pytest.raises(ValueError, match="or no index of a TensorFlow checkpoint"):
        open_bundle(tmp_path / "c")


def prefixed(count, length):
    """A block of names of `length` bytes, each of which shares all but 8 with the one before."""
    pairs = b"".join(
        varint(length - 8 if i else 0)
        + varint(8 if i else length)
        + varint(0)
        + f"{i:08d}".encode().rjust(8 if i else length)
        for i in range(count)
    )
    return pairs + bytes(4) + struct.pack("<I", 1)


def indexed(blocks, repeats=1):
    """An index of blocks, each of them listed this many times."""
    out, handles = bytearray(), []

    def put(content):
        where = varint(len(out)) + varint(len(content))
        out.extend(content + b"\0" + struct.pack("<I", tensorflow_checkpoint._checksum(content + b"\0")))
        return where

    for content in blocks:
        handles += [put(content)] * repeats
    footer = put(block([])) + put(block([(b"%08d" % i, handle) for i, handle in enumerate(handles)], 1))
    return bytes(out) + footer + bytes(40 - len(footer)) + struct.pack("<Q", 0xDB4775248B80FB57)


HOSTILE = {
    "names of gigabytes": lambda: indexed([prefixed(50_000, 120_000)]),
    "many names": lambda: indexed([prefixed(600_000, 1_000)]),
    "a block many times": lambda: indexed([prefixed(20_000, 900)], 20_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_indexes_end_in_a_line_within_time_and_memory(tmp_path, name):
    path = tmp_path / "c.index"
    path.write_bytes(HOSTILE[name]())
    message = refusal_within_limits("diffusion.convert.tensorflow_checkpoint.open_bundle", path)
    assert message.startswith(str(path))


# ---------------------------------------------------------------------------------------------------- the U-Net in it


@pytest.fixture(scope="module")
def network():
    """Shapes of a small network, its averaged and raw parameters, and a checkpoint's variables."""
    import jax

    net = UNet(channels=4, multipliers=(1, 2), blocks=1, attention=(2,))
    x, t = jax.ShapeDtypeStruct((1, 4, 4, 3), np.float32), jax.ShapeDtypeStruct((1,), np.int32)
    params = jax.eval_shape(net.init, jax.random.key(0), x, t)["params"]
    shapes = {name: leaf.shape for name, leaf in name_mapping.flatten(params).items()}
    ema, raw = made_up(shapes, 0), made_up(shapes, 1)
    theirs = foreign("ddpm_tf", raw, 2, 1, [1], 1)
    average = foreign("ddpm_tf", ema, 2, 1, [1], 1)
    variables = {f"model/{name}": value for name, value in theirs.items()}
    variables |= {f"model/{name}/ExponentialMovingAverage": value for name, value in average.items()}
    variables |= {f"model/{name}/Adam{n}": value for name, value in theirs.items() for n in ("", "_1")}
    variables |= {"beta1_power": np.float32(0.9), "beta2_power": np.float32(0.9), "global_step": np.int64(790_000)}
    return shapes, ema, raw, variables


def test_averages_and_raw_weights_are_taken_and_the_optimiser_left(tmp_path, network):
    shapes, ema, raw, variables = network
    weights = ddpm_tf.read(write_bundle(tmp_path / "model.ckpt-790000", variables))
    assert weights.step == 790_000 and weights.channels == 3 and weights.classes == 0
    rules = name_mapping.rules(weights.naming, shapes, 1)
    for found, expected in ((weights.ema, ema), (weights.raw, raw)):
        read = name_mapping.read(rules, found, shapes)
        assert read.keys() == expected.keys() and all(np.array_equal(read[name], expected[name]) for name in read)


def test_the_scope_may_have_any_name_and_others_stand_beside_it(tmp_path, network):
    shapes, ema, _, variables = network
    moved = {name.replace("model/", "tower/net/"): value for name, value in variables.items()}
    weights = ddpm_tf.read(write_bundle(tmp_path / "c", moved | {"tower/counter": np.int64(3)}))
    read = name_mapping.read(name_mapping.rules(weights.naming, shapes, 1), weights.ema, shapes)
    assert all(np.array_equal(read[name], ema[name]) for name in ema)


def test_a_variable_too_few_or_too_many_is_listed(tmp_path, network):
    shapes, _, _, variables = network
    lost = "mid/attn_1/k/W"
    cut = {name: value for name, value in variables.items() if lost not in name}
    weights = ddpm_tf.read(write_bundle(tmp_path / "c", cut | {"model/other/W": np.zeros(2, np.float32)}))
    assert name_mapping.faults(name_mapping.rules(weights.naming, shapes, 1), weights.ema, shapes) == [
        f"1 missing ({lost})"
    ]
    found = name_mapping.faults(name_mapping.rules(weights.naming, shapes, 1), weights.raw, shapes)
    assert found == [f"1 missing ({lost})", "1 unexpected (other/W)"]


def test_a_checkpoint_of_something_else_is_refused(tmp_path, rng):
    with pytest.raises(ValueError, match=r"0 variables are named .*conv_in/W") as error:
        ddpm_tf.read(write_bundle(tmp_path / "c", some(rng)))
    assert one_line(error)
