"""System calls that Node does not have, on a mounted volume: `calls.py FOLDER`. Each function is a test; its docstring is its name.

Prints a line of JSON per test: {"name", "error"}, the error null where all is well.
"""

import errno
import json
import os
import random
import sys
import traceback

MIB = 1 << 20
CHUNK = 64 * MIB


def fails(number, call, *args):
    try:
        call(*args)
    except OSError as error:
        assert error.errno == number, f"{errno.errorcode[error.errno]} in place of {errno.errorcode[number]}"
        return
    raise AssertionError(f"no {errno.errorcode[number]}")


def write_file(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def copy_all(source, target, count, offset_in, offset_out):
    done = 0
    while done < count:
        step = os.copy_file_range(source, target, count - done, offset_in + done, offset_out + done)
        if step == 0:
            break
        done += step
    return done


def copied_ranges(folder):
    """copy_file_range copies unaligned ranges, over the borders of blocks and of the file, and between files"""
    dice = random.Random(4711)
    data = dice.randbytes(9 * MIB + 17)
    write_file(f"{folder}/source", data)
    model = bytearray(dice.randbytes(3 * MIB))
    write_file(f"{folder}/target", model)
    source = os.open(f"{folder}/source", os.O_RDONLY)
    target = os.open(f"{folder}/target", os.O_RDWR)
    for turn in range(40):
        offset_in = dice.randrange(len(data) + 4096)
        offset_out = dice.randrange(len(model) + 70000)
        size = dice.choice([1, 4096, dice.randrange(1, 5 * MIB)])
        part = data[offset_in : offset_in + size]
        assert copy_all(source, target, size, offset_in, offset_out) == len(part)
        if part and len(model) < offset_out:
            model += bytes(offset_out - len(model))
        model[offset_out : offset_out + len(part)] = part
        if turn % 4 == 0:
            patch = dice.randbytes(5000)
            at = dice.randrange(len(model) - len(patch))
            os.pwrite(target, patch, at)
            model[at : at + len(patch)] = patch
        assert os.fstat(target).st_size == len(model)
        at = dice.randrange(len(model))
        assert os.pread(target, 100_000, at) == model[at : at + 100_000], f"turn {turn}"
    assert read_file(f"{folder}/target") == model
    os.close(source)
    os.close(target)
    # The source is nothing of the target any more.
    os.unlink(f"{folder}/source")
    assert read_file(f"{folder}/target") == model


def copied_onto_itself(folder):
    """copy_file_range within a file copies what does not overlap, and refuses what does"""
    data = random.Random(1).randbytes(2 * MIB)
    write_file(f"{folder}/self", data)
    file = os.open(f"{folder}/self", os.O_RDWR)
    assert copy_all(file, file, MIB, 100, len(data)) == MIB
    assert os.pread(file, 4 * MIB, 0) == data + data[100 : 100 + MIB]
    fails(errno.EINVAL, os.copy_file_range, file, file, 1000, 0, 999)
    os.close(file)


def copied_modes(folder):
    """copy_file_range needs a source to read and a target to write, and copies nothing from behind the end"""
    write_file(f"{folder}/a", b"text")
    write_file(f"{folder}/b", b"")
    read, write = os.open(f"{folder}/a", os.O_RDONLY), os.open(f"{folder}/b", os.O_WRONLY)
    assert os.copy_file_range(read, write, 100, 4, 0) == 0
    assert os.fstat(write).st_size == 0
    fails(errno.EBADF, os.copy_file_range, write, read, 10, 0, 0)
    append = os.open(f"{folder}/b", os.O_WRONLY | os.O_APPEND)
    fails(errno.EBADF, os.copy_file_range, read, append, 10, 0, 0)
    for each in (read, write, append):
        os.close(each)


def holes(folder):
    """lseek finds data and holes: never written, punched, truncated, over many empty chunks, and not committed yet"""
    file = os.open(f"{folder}/sparse", os.O_RDWR | os.O_CREAT)
    seek = lambda at, whence: os.lseek(file, at, whence)
    os.pwrite(file, b"x" * 4096, 8192)
    assert seek(0, os.SEEK_DATA) == 8192 and seek(0, os.SEEK_HOLE) == 0
    assert seek(8192, os.SEEK_HOLE) == 12288 and seek(10000, os.SEEK_DATA) == 10000
    fails(errno.ENXIO, seek, 12288, os.SEEK_DATA)
    far = 1000 * CHUNK + 5
    os.pwrite(file, b"far", far)
    os.ftruncate(file, far + 4096)
    assert seek(12288, os.SEEK_DATA) == far
    assert seek(far, os.SEEK_HOLE) == far + 3
    fails(errno.ENXIO, seek, far + 3, os.SEEK_DATA)
    fails(errno.ENXIO, seek, far + 4096, os.SEEK_HOLE)
    os.posix_fallocate(file, far + 4096, 4096)
    os.ftruncate(file, 10000)
    os.ftruncate(file, 2 * CHUNK)
    assert seek(8192, os.SEEK_HOLE) == 10000
    fails(errno.ENXIO, seek, 10000, os.SEEK_DATA)
    os.close(file)


TESTS = [copied_ranges, copied_onto_itself, copied_modes, holes]


def main():
    folder = sys.argv[1]
    for test in TESTS:
        place = f"{folder}/{test.__name__}"
        os.mkdir(place)
        error = None
        try:
            test(place)
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"name": test.__doc__, "error": error}), flush=True)


main()
