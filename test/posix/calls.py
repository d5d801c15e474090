"""System calls that Node does not have, on a mounted volume: `calls.py FOLDER`. Each function is a test; its docstring is its name.

Prints a line of JSON per test: {"name", "error"}, the error null where all is well.
"""

import ctypes
import errno
import fcntl
import json
import os
import random
import stat
import struct
import sys
import time
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


def link_open(file, path):
    """linkat(2) of an open file, by AT_SYMLINK_FOLLOW: only with a directory given along."""
    root = os.open("/", os.O_RDONLY)
    try:
        os.link(f"proc/self/fd/{file}", path, src_dir_fd=root, follow_symlinks=True)
    finally:
        os.close(root)


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


LIBC = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 0x01, 0x02, 0x08, 0x10, 0x20


def fallocate(file, mode, offset, length):
    arguments = [ctypes.c_int(file), ctypes.c_int(mode), ctypes.c_longlong(offset), ctypes.c_longlong(length)]
    if LIBC.fallocate(*arguments) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def allocated(folder):
    """fallocate makes room, holes and zeros, with and without the size, and refuses what moves data"""
    path = f"{folder}/file"
    data = random.Random(7).randbytes(5 * MIB + 321)
    write_file(path, data)
    model = bytearray(data)
    file = os.open(path, os.O_RDWR)

    def check():
        assert os.fstat(file).st_size == len(model)
        assert read_file(path) == bytes(model)

    # A hole over the border of two blocks, not aligned; then one that reaches behind the end.
    fallocate(file, PUNCH_HOLE | KEEP_SIZE, 4 * MIB - 1001, 2003)
    model[4 * MIB - 1001 : 4 * MIB + 1002] = bytes(2003)
    check()
    fallocate(file, PUNCH_HOLE | KEEP_SIZE, 5 * MIB, 10 * MIB)
    model[5 * MIB :] = bytes(321)
    check()
    # Zeros keep the size, or bring it along.
    fallocate(file, ZERO_RANGE | KEEP_SIZE, 100, 77)
    model[100:177] = bytes(77)
    fallocate(file, ZERO_RANGE | KEEP_SIZE, len(model) - 10, 1000)
    model[-10:] = bytes(10)
    check()
    fallocate(file, ZERO_RANGE, 5 * MIB + 300, 1000)
    model[5 * MIB + 300 :] = bytes(1000)
    check()
    # Room alone changes no byte.
    fallocate(file, KEEP_SIZE, 0, 20 * MIB)
    check()
    fallocate(file, 0, 6 * MIB, 5)
    model.extend(bytes(6 * MIB + 5 - len(model)))
    check()
    for mode in (COLLAPSE_RANGE, INSERT_RANGE, PUNCH_HOLE):
        fails(errno.EOPNOTSUPP, fallocate, file, mode, 0, 4096)
    fails(errno.EINVAL, fallocate, file, 0, 0, 0)
    fails(errno.EINVAL, fallocate, file, 0, -1, 10)
    os.close(file)
    check_closed = os.open(path, os.O_RDONLY)
    fails(errno.EBADF, fallocate, check_closed, 0, 0, 10)
    os.close(check_closed)
    assert read_file(path) == bytes(model)


def unnamed(folder):
    """a file made with O_TMPFILE has no name and goes with its last close"""
    before = os.statvfs(folder)
    file = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(file, b"never named" * 1000)
    os.fsync(file)
    status = os.fstat(file)
    assert (status.st_nlink, status.st_size, stat.S_IMODE(status.st_mode)) == (0, 11000, 0o640)
    assert os.listdir(folder) == []
    assert os.statvfs(folder).f_files - os.statvfs(folder).f_ffree == before.f_files - before.f_ffree + 1
    os.close(file)
    for _ in range(200):
        after = os.statvfs(folder)
        if after.f_files - after.f_ffree == before.f_files - before.f_ffree:
            return
        time.sleep(0.05)
    raise AssertionError("the inode is still there")


def named_later(folder):
    """a file made with O_TMPFILE can be given names, unless it was made with O_EXCL, and is a file like others then"""
    file = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(file, b"named later")
    link_open(file, f"{folder}/name")
    assert os.fstat(file).st_nlink == 1 and os.listdir(folder) == ["name"]
    os.link(f"{folder}/name", f"{folder}/other")
    os.close(file)
    assert read_file(f"{folder}/name") == b"named later" and os.stat(f"{folder}/other").st_nlink == 2
    os.unlink(f"{folder}/name")
    assert read_file(f"{folder}/other") == b"named later"
    closed = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    fails(errno.ENOENT, lambda: link_open(closed, f"{folder}/no"))
    os.close(closed)
    # A removed file stays removed.
    gone = os.open(f"{folder}/other", os.O_RDONLY)
    os.unlink(f"{folder}/other")
    fails(errno.ENOENT, lambda: link_open(gone, f"{folder}/no"))
    os.close(gone)
    assert os.listdir(folder) == []


GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR = 0x80086601, 0x40086602, 0x801C581F, 0x401C5820
SECRM, IMMUTABLE, APPEND, NODUMP = 0x1, 0x10, 0x20, 0x40


def get_flags(path):
    file = os.open(path, os.O_RDONLY)
    try:
        return struct.unpack("q", fcntl.ioctl(file, GETFLAGS, bytes(8)))[0]
    finally:
        os.close(file)


def set_flags(path, flags):
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(file, SETFLAGS, struct.pack("q", flags))
    finally:
        os.close(file)


def flags_kept(folder):
    """flags of chattr are kept, shown both ways, and others refused"""
    path = f"{folder}/file"
    write_file(path, b"text")
    assert get_flags(path) == 0
    for flags in (SECRM, IMMUTABLE, APPEND, IMMUTABLE | APPEND, 0):
        set_flags(path, flags)
        assert get_flags(path) == flags, flags
    fails(errno.EOPNOTSUPP, set_flags, path, NODUMP)
    file = os.open(path, os.O_RDONLY)
    fcntl.ioctl(file, FSSETXATTR, struct.pack("7I", 0x8, 0, 0, 0, 0, 0, 0))
    assert struct.unpack("7I", fcntl.ioctl(file, FSGETXATTR, bytes(28)))[0] == 0x8
    assert get_flags(path) == IMMUTABLE
    fails(errno.ENOTTY, fcntl.ioctl, file, 0x5413, bytes(8))
    os.close(file)
    set_flags(path, 0)
    set_flags(folder, IMMUTABLE)
    assert get_flags(folder) == IMMUTABLE
    set_flags(folder, 0)


def immutable(folder):
    """an immutable file and an immutable directory refuse every change with EPERM, and can be read"""
    path, directory = f"{folder}/file", f"{folder}/dir"
    write_file(path, b"as it is")
    os.setxattr(path, "user.a", b"1")
    os.mkdir(directory)
    write_file(f"{directory}/inside", b"")
    write_file(f"{folder}/other", b"")
    set_flags(path, IMMUTABLE)
    set_flags(directory, IMMUTABLE)
    for call in (
        lambda: os.open(path, os.O_WRONLY),
        lambda: os.open(path, os.O_WRONLY | os.O_APPEND),
        lambda: os.truncate(path, 3),
        lambda: os.chmod(path, 0o600),
        lambda: os.chown(path, 1, 1),
        lambda: os.utime(path),
        lambda: os.utime(path, (1, 1)),
        lambda: os.link(path, f"{folder}/link"),
        lambda: os.unlink(path),
        lambda: os.rename(path, f"{folder}/renamed"),
        lambda: os.rename(f"{folder}/other", path),
        lambda: os.setxattr(path, "user.b", b"2"),
        lambda: os.removexattr(path, "user.a"),
        lambda: write_file(f"{directory}/new", b""),
        lambda: os.mkdir(f"{directory}/new"),
        lambda: os.symlink("x", f"{directory}/new"),
        lambda: os.link(f"{folder}/other", f"{directory}/new"),
        lambda: os.rename(f"{folder}/other", f"{directory}/new"),
        lambda: os.unlink(f"{directory}/inside"),
        lambda: os.rename(f"{directory}/inside", f"{folder}/out"),
        lambda: os.open(directory, os.O_TMPFILE | os.O_RDWR),
        lambda: os.chmod(directory, 0o700),
        lambda: os.rename(directory, f"{folder}/renamed"),
    ):
        fails(errno.EPERM, call)
    assert read_file(path) == b"as it is" and os.getxattr(path, "user.a") == b"1"
    os.chmod(f"{directory}/inside", 0o600)
    set_flags(directory, 0)
    os.unlink(f"{directory}/inside")
    set_flags(directory, IMMUTABLE)
    fails(errno.EPERM, os.rmdir, directory)
    set_flags(path, 0)
    set_flags(directory, 0)
    os.unlink(path)
    os.rmdir(directory)


def append_only(folder):
    """an append-only file takes what is added to its end alone, an append-only directory new names alone"""
    path, directory = f"{folder}/log", f"{folder}/dir"
    write_file(path, b"one ")
    os.mkdir(directory)
    write_file(f"{folder}/other", b"")
    set_flags(path, APPEND)
    set_flags(directory, APPEND)
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(file, b"two")
    os.close(file)
    assert read_file(path) == b"one two"
    os.utime(path)
    write_file(f"{directory}/new", b"")
    os.rename(f"{folder}/other", f"{directory}/moved")
    write_file(f"{folder}/other", b"")
    for call in (
        lambda: os.open(path, os.O_WRONLY),
        lambda: os.open(path, os.O_WRONLY | os.O_APPEND | os.O_TRUNC),
        lambda: os.truncate(path, 3),
        lambda: os.chmod(path, 0o600),
        lambda: os.utime(path, (1, 1)),
        lambda: os.link(path, f"{folder}/link"),
        lambda: os.unlink(path),
        lambda: os.rename(path, f"{folder}/renamed"),
        lambda: os.setxattr(path, "user.b", b"2"),
        lambda: os.unlink(f"{directory}/new"),
        lambda: os.rename(f"{directory}/new", f"{folder}/out"),
        lambda: os.rename(f"{folder}/other", f"{directory}/new"),
    ):
        fails(errno.EPERM, call)
    set_flags(path, 0)
    set_flags(directory, 0)


TESTS = [
    copied_ranges,
    copied_onto_itself,
    copied_modes,
    holes,
    allocated,
    unnamed,
    named_later,
    flags_kept,
    immutable,
    append_only,
]


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
