"""CRC-32C (Castagnoli), by which TensorFlow's files guard their content, fast enough for gigabytes in NumPy.

A checksum is linear over GF(2): many stretches of the data are run through the byte table side by side, then joined in
pairs, each left part moved past its right part by a matrix power.
"""

import numpy as np

POLYNOMIAL = 0x82F63B78
MOST_LANES = 1 << 12
SHORTEST = 1 << 6
"""Stretches are not made shorter than this to have more of them."""


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table


TABLE = _byte_table()
BITS = np.uint32(1) << np.arange(32, dtype=np.uint32)


def crc32c(data: bytes | memoryview | np.ndarray) -> int:
    """CRC-32C of bytes: initial value and final complement of all ones, as in RFC 3720."""
    raw = np.frombuffer(data, np.uint8)
    lanes = min(MOST_LANES, 1 << (len(raw) // SHORTEST).bit_length())
    length = -(-len(raw) // lanes)
    # zeros in front leave a register of zeros as it is
    padded = np.zeros(lanes * length, np.uint8)
    padded[len(padded) - len(raw) :] = raw
    columns = np.ascontiguousarray(padded.reshape(lanes, length).T)
    crc = np.zeros(lanes, np.uint32)
    for column in columns:
        crc = TABLE[(crc ^ column) & 0xFF] ^ (crc >> 8)
    step = _zeros(length)
    while len(crc) > 1:
        crc = _apply(step, crc[0::2]) ^ crc[1::2]
        step = _apply(step, step)
    start = _apply(_zeros(len(raw)), np.array([0xFFFFFFFF], np.uint32))
    return int(crc[0] ^ start[0]) ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The checksum as TensorFlow and LevelDB store it: rotated, plus a number.

    A checksum over data that holds checksums keeps its worth so.
    """
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _apply(matrix: np.ndarray, registers: np.ndarray) -> np.ndarray:
    """Each register, a vector of 32 bits, times a matrix given by the images of the 32 unit vectors."""
    chosen = np.where(registers[:, None] & BITS[None, :], matrix[None, :], np.uint32(0))
    return np.bitwise_xor.reduce(chosen, axis=1)


def _zeros(count: int) -> np.ndarray:
    """What `count` bytes of zeros do to a register, as a matrix."""
    result, square = BITS, TABLE[BITS & 0xFF] ^ (BITS >> 8)
    while count:
        if count & 1:
            result = _apply(square, result)
        square = _apply(square, square)
        count >>= 1
    return result
