"""
Changes of a file system, for comparing what two clients do with them: `changes.py FOLDER all`, each kind of change once or more, or
`changes.py FOLDER SEED COUNT`, so many at random, the same for the same seed. Prints what each call answered: `ok`, or the error's name.
Everything is done by one thread, and what is written is flushed at once, so that the order is the same each time.
"""
import ctypes
import errno
import fcntl
import os
import random
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
folder = sys.argv[1]
os.umask(0o022)
os.chdir(folder)


def check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def fallocate(name, mode, offset, length):
    fd = os.open(name, os.O_WRONLY)
    try:
        check(libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))
    finally:
        os.close(fd)


def renameat2(old, new, flags):
    at = ctypes.c_int(-100)
    check(libc.renameat2(at, os.fsencode(old), at, os.fsencode(new), ctypes.c_uint(flags)))


def write(name, offset, data, flags=os.O_CREAT):
    fd = os.open(name, os.O_RDWR | flags, 0o644)
    try:
        os.pwrite(fd, data, offset)
        os.fsync(fd)
    finally:
        os.close(fd)


def copy(source, offset, target, to, length):
    a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.copy_file_range(a, b, length, offset, to)
    finally:
        os.close(a)
        os.close(b)


def ftruncate(name, length):
    fd = os.open(name, os.O_WRONLY)
    try:
        os.ftruncate(fd, length)
    finally:
        os.close(fd)


def flock(name):
    fd = os.open(name, os.O_RDWR)
    try:
        for how in (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN):
            fcntl.flock(fd, how)
    finally:
        os.close(fd)


def lockf(name):
    fd = os.open(name, os.O_RDWR)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX, 100, 10)
        fcntl.lockf(fd, fcntl.LOCK_SH, 20, 30)
        fcntl.lockf(fd, fcntl.LOCK_UN, 0, 0)
    finally:
        os.close(fd)


def unlink_open(name):
    fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
    os.unlink(name)
    os.pwrite(fd, b'still here', 0)
    os.fsync(fd)
    os.close(fd)


def acl(name, kind, *entries):
    value = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)
    os.setxattr(name, 'system.posix_acl_' + kind, value)


NOBODY = 0xFFFFFFFF
WIDE = [(1, 7, NOBODY), (2, 6, 1000), (4, 5, NOBODY), (16, 7, NOBODY), (32, 4, NOBODY)]
BARE = [(1, 6, NOBODY), (4, 4, NOBODY), (32, 0, NOBODY)]


def utime(name, atime, mtime):
    os.utime(name, ns=(atime, mtime))


def remove_xattr(name, attribute):
    # On Redis the official client logs it where there is none, too.
    if attribute in os.listxattr(name):
        os.removexattr(name, attribute)


def everything():
    strange = 'a,b%(c)"d\\e\n\u00e4'
    yield os.mkdir, 'd', 0o750
    yield os.mkdir, 'd/' + strange, 0o777
    yield os.mkdir, b'd/\xff\xfe', 0o777
    yield write, 'd/file', 0, b'hello'
    yield write, 'd/file', 3, b'lo again'
    yield write, 'd/file', 70 << 20, b'behind a hole'
    yield os.symlink, 'to, (somewhere)', 'd/link'
    yield os.mkfifo, 'd/fifo', 0o622
    yield os.mknod, 'd/null', 0o20666, os.makedev(1, 3)
    yield os.mkdir, 'd', 0o750
    yield os.link, 'd/file', 'd/second'
    yield os.link, 'd/file', 'third'
    yield os.rename, 'd/fifo', 'pipe'
    yield os.rename, 'd/second', 'd/null'
    yield os.rename, 'third', 'd/file'
    yield os.mkdir, 'e', 0o755
    yield os.mkdir, 'f', 0o755
    yield os.rename, 'e', 'f'
    yield os.rename, 'd/' + strange, 'f/' + strange
    yield renameat2, 'd/link', 'f', 2
    yield renameat2, 'd/link', 'pipe', 1
    yield renameat2, 'd/link', 'moved', 1
    yield os.chmod, 'd/file', 0o4711
    yield os.chown, 'd/file', 1000, 1001
    yield os.chown, 'd/file', 0, -1
    yield utime, 'd/file', 1_000_000_000_123_456_789, 1_100_000_000_000_000_001
    yield os.utime, 'd/file', None
    yield os.truncate, 'd/file', 3
    yield os.truncate, 'd/file', 3
    yield ftruncate, 'd/file', 100_000
    yield write, 'd/file', 50, b'zeros around'
    yield fallocate, 'd/file', 0, 200_000, 10
    yield fallocate, 'd/file', 1, 300_000, 10
    yield fallocate, 'd/file', 3, 10, 50_000
    yield fallocate, 'd/file', 16, 40, 20
    yield copy, 'd/file', 20, 'copy', 5, 1000
    yield copy, 'd/file', 10, 'copy', 4_000_000, 100
    yield os.setxattr, 'd/file', 'user.one', bytes(range(256)), os.XATTR_CREATE
    yield os.setxattr, 'd/file', 'user.one', b'1', os.XATTR_CREATE
    yield os.setxattr, 'd/file', 'user.one', b'2', os.XATTR_REPLACE
    yield os.setxattr, 'd/file', 'user.\u00fc,', b'', 0
    yield remove_xattr, 'd/file', 'user.one'
    yield remove_xattr, 'd/file', 'user.one'
    yield acl, 'd/file', 'access', *WIDE
    yield os.chmod, 'd/file', 0o640
    yield acl, 'd', 'default', *WIDE
    yield write, 'd/inherits', 0, b'x'
    yield os.mkdir, 'd/below', 0o755
    yield acl, 'd/file', 'access', *BARE
    yield acl, 'd', 'default', *BARE
    yield write, 'd/plain', 0, b'x'
    yield os.removexattr, 'd', 'system.posix_acl_default'
    yield flock, 'd/file'
    yield lockf, 'd/file'
    yield unlink_open, 'gone'
    yield write, 'd/file', 0, b'new', os.O_TRUNC
    yield os.rename, 'copy', 'd/file'
    yield os.unlink, 'd/null'
    yield os.unlink, 'd/null'
    yield os.unlink, 'moved'
    yield os.rmdir, 'd'
    yield os.rmdir, b'd/\xff\xfe'
    yield os.rmdir, 'nothing'
    yield write, 'long' * 63, 0, b'a name that the trash cuts'
    yield os.unlink, 'long' * 63


def at_random(seed, count):
    chance = random.Random(seed)
    directories = ['.', 'a', 'b', 'a/c']
    names = ['x', 'y', 'z,(%)']

    def name():
        return os.path.join(chance.choice(directories), chance.choice(names + ['a', 'b', 'c']))

    for each in directories[1:]:
        yield os.mkdir, each, 0o755
    actions = [
        lambda: (os.mkdir, name(), chance.choice([0o755, 0o700])),
        lambda: (write, name(), chance.choice([0, 100, 5000]), b'x' * chance.choice([1, 100, 5000])),
        lambda: (write, name(), chance.choice([0, 100, 5000]), b'x' * chance.choice([1, 100, 5000])),
        lambda: (os.symlink, name(), name()),
        lambda: (os.link, name(), name()),
        lambda: (os.rename, name(), name()),
        lambda: (os.rename, name(), name()),
        lambda: (renameat2, name(), name(), chance.choice([1, 2])),
        lambda: (os.unlink, name()),
        lambda: (os.rmdir, name()),
        lambda: (os.chmod, name(), chance.choice([0o600, 0o755, 0o711])),
        lambda: (os.chown, name(), chance.choice([-1, 0, 7]), chance.choice([-1, 0, 7])),
        lambda: (os.truncate, name(), chance.choice([0, 10, 4096, 10_000])),
        lambda: (copy, name(), chance.choice([0, 10]), name(), chance.choice([0, 6000]), 3000),
        lambda: (fallocate, name(), chance.choice([0, 1, 3, 16]), chance.choice([0, 50]), 2000),
        lambda: (os.setxattr, name(), 'user.' + chance.choice('ab'), b'v' * chance.choice([0, 5]), chance.choice([0, 1, 2])),
        lambda: (remove_xattr, name(), 'user.' + chance.choice('ab')),
        lambda: (utime, name(), 10**18 + chance.randrange(10**9), 10**18),
        lambda: (flock, name()),
        lambda: (lockf, name()),
        lambda: (unlink_open, name()),
    ]
    for _ in range(count):
        yield chance.choice(actions)()


steps = everything() if sys.argv[2] == 'all' else at_random(int(sys.argv[2]), int(sys.argv[3]))
for action, *args in steps:
    try:
        action(*args)
        answer = 'ok'
    except OSError as error:
        answer = errno.errorcode[error.errno]
    print(action.__name__, *(repr(each) if len(repr(each)) < 60 else '...' for each in args), answer)
