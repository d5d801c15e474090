"""A program that locks, told what to do line by line: each command is answered by one line.

open NAME PATH r|w|rw     open a file
close NAME
dup NAME OTHER
fcntl|ofd NAME r|w|u [START [LENGTH]]     answers ok, or the name of the errno; `wait` as a last word waits
flock NAME r|w|u [wait]
get NAME r|w [START [LENGTH]]             answers free, or TYPE START LENGTH, and `own` where the pid is of this machine's
read NAME START LENGTH, write NAME START TEXT
fork              a child holds copies of the descriptors until `reap`
reap
"""
import errno, fcntl, os, signal, struct, sys

files = {}
children = []
types = {'r': fcntl.F_RDLCK, 'w': fcntl.F_WRLCK, 'u': fcntl.F_UNLCK}
flocks = {'r': fcntl.LOCK_SH, 'w': fcntl.LOCK_EX, 'u': fcntl.LOCK_UN}
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38


def pack(kind, start, length):
    return struct.pack('hhqqi4x', types[kind], os.SEEK_SET, start, length, 0)


def run(words):
    wait = words[-1] == 'wait'
    if wait:
        words.pop()
    command, *args = words
    if command == 'open':
        name, path, mode = args
        flags = {'r': os.O_RDONLY, 'w': os.O_WRONLY, 'rw': os.O_RDWR}[mode]
        files[name] = os.open(path, flags | os.O_CREAT, 0o666)
    elif command == 'close':
        os.close(files.pop(args[0]))
    elif command == 'dup':
        files[args[1]] = os.dup(files[args[0]])
    elif command in ('fcntl', 'ofd'):
        name, kind, start, length = (args + ['0', '0'])[:4]
        lock = pack(kind, int(start), int(length))
        plain = fcntl.F_SETLKW if wait else fcntl.F_SETLK
        owned = F_OFD_SETLKW if wait else F_OFD_SETLK
        fcntl.fcntl(files[name], plain if command == 'fcntl' else owned, lock)
    elif command == 'flock':
        fcntl.flock(files[args[0]], flocks[args[1]] | (0 if wait else fcntl.LOCK_NB))
    elif command == 'get':
        name, kind, start, length = (args + ['0', '0'])[:4]
        answer = fcntl.fcntl(files[name], fcntl.F_GETLK, pack(kind, int(start), int(length)))
        found, _, start, length, pid = struct.unpack('hhqqi4x', answer)
        if found == fcntl.F_UNLCK:
            return 'free'
        return f"{'rw'[found]} {start} {length}{' own' if pid > 0 else ''}"
    elif command == 'read':
        return os.pread(files[args[0]], int(args[2]), int(args[1])).decode('latin1')
    elif command == 'write':
        os.pwrite(files[args[0]], args[2].encode('latin1'), int(args[1]))
    elif command == 'fork':
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        children.append(child)
    elif command == 'reap':
        child = children.pop()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    else:
        raise ValueError(command)
    return 'ok'


signal.signal(signal.SIGUSR1, lambda *_: (_ for _ in ()).throw(InterruptedError(errno.EINTR, 'signal')))
for line in sys.stdin:
    try:
        answer = run(line.split())
    except OSError as error:
        answer = errno.errorcode[error.errno]
    print(answer, flush=True)
