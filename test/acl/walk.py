"""Random changes of access control lists, modes and names below a directory, and what users may do there.

    walk.py DIR SEED STEPS

Prints what each call answered and, in the end, modes and lists of everything. Two file systems that behave alike print the same.
"""
import errno, os, random, struct, sys

folder, seed, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
choose = random.Random(seed)
ACCESS, DEFAULT = 'system.posix_acl_access', 'system.posix_acl_default'
NOBODY = 0xFFFFFFFF
USERS = [0, 1001, 1002, 1003]
GROUPS = [0, 2001, 2002]


def rule():
    """A list of access control as the kernel wants it, of any length, sometimes one that it refuses."""
    entries = [(1, choose.randrange(8), NOBODY)]
    users = sorted(choose.sample(USERS[1:], choose.randrange(3)))
    groups = sorted(choose.sample(GROUPS[1:], choose.randrange(3)))
    entries += [(2, choose.randrange(8), user) for user in users]
    entries += [(4, choose.randrange(8), NOBODY)]
    entries += [(8, choose.randrange(8), group) for group in groups]
    if users or groups or choose.random() < 0.2:
        entries += [(16, choose.randrange(8), NOBODY)]
    entries += [(32, choose.randrange(8), NOBODY)]
    if choose.random() < 0.05:
        entries.pop(choose.randrange(len(entries)))
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)


def attempt(text, call):
    try:
        answer = call()
        print(text, 'ok' if answer is None else answer)
    except OSError as error:
        print(text, errno.errorcode[error.errno])


def as_user(uid, gid, groups, call):
    """What a call answers to a user, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            os.umask(choose.choice([0, 0o022, 0o077]))
            answer = call()
            os.write(writer, str('ok' if answer is None else answer).encode())
        except OSError as error:
            os.write(writer, errno.errorcode[error.errno].encode())
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 4096).decode()
    os.close(reader)
    os.waitpid(child, 0)
    return answer


def paths():
    found = ['.']
    for base, folders, files in os.walk('.'):
        found += [os.path.join(base, name) for name in sorted(folders) + sorted(files)]
    return sorted(found)


def rights(path):
    return ''.join('rwx'[at] if os.access(path, mode) else '-' for at, mode in enumerate((os.R_OK, os.W_OK, os.X_OK)))


def touch(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, choose.choice([0o666, 0o640, 0o777, 0o600])))


os.chdir(folder)
os.chmod('.', 0o777)
for step in range(steps):
    path = choose.choice(paths())
    who = (choose.choice(USERS), choose.choice(GROUPS), choose.sample(GROUPS, choose.randrange(3)))
    kind = choose.randrange(9)
    name = os.path.join(path, f'{step}')
    if kind == 0:
        value = rule()
        attempt(f'{step} set {path}', lambda: as_user(*who, lambda: os.setxattr(path, ACCESS, value)))
    elif kind == 1:
        value = rule()
        attempt(f'{step} set default {path}', lambda: as_user(*who, lambda: os.setxattr(path, DEFAULT, value)))
    elif kind == 2:
        attempt(f'{step} remove {path}', lambda: os.removexattr(path, choose.choice([ACCESS, DEFAULT])))
    elif kind == 3:
        mode = choose.randrange(0o10000)
        attempt(f'{step} chmod {path} {mode:o}', lambda: as_user(*who, lambda: os.chmod(path, mode)))
    elif kind == 4:
        uid, gid = choose.choice(USERS), choose.choice(GROUPS)
        attempt(f'{step} chown {path} {uid} {gid}', lambda: os.chown(path, uid, gid))
    elif kind == 5:
        mode = choose.choice([0o777, 0o750, 0o700])
        attempt(f'{step} mkdir {name} by {who}', lambda: as_user(*who, lambda: os.mkdir(name, mode)))
    elif kind == 6:
        attempt(f'{step} create {name} by {who}', lambda: as_user(*who, lambda: touch(name)))
    elif kind == 7:
        attempt(f'{step} mknod {name} by {who}', lambda: as_user(*who, lambda: os.mknod(name, 0o10666)))
    else:
        attempt(f'{step} rights of {who} on {path}', lambda: as_user(*who, lambda: rights(path)))

for path in paths():
    status = os.lstat(path)
    print(path, oct(status.st_mode), status.st_uid, status.st_gid)
    for name in (ACCESS, DEFAULT):
        attempt(f'  {name}', lambda: os.getxattr(path, name).hex())
    print('  names', sorted(name for name in os.listxattr(path) if name.startswith('system.')))
