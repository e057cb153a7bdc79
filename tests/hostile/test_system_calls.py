"""The system call filter from inside: every number in three calling conventions, terminals, sockets, namespaces."""

from __future__ import annotations

import os
import platform

import pytest

import pycontainer as pc
from hostile.attacks import inside, outside

pytestmark = pytest.mark.requires("arch:x86_64")  # numbers and calling conventions below are this architecture's
REFUSED = (-1, -38)  # EPERM, ENOSYS

# What a container has no business with, written here and not taken from the engine. Numbers: syscall_64.tbl.
DANGEROUS = {
    "uselib": 134, "ustat": 136, "sysfs": 139, "pivot_root": 155, "_sysctl": 156,
    "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
    "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "create_module": 174,
    "init_module": 175, "delete_module": 176, "get_kernel_syms": 177, "query_module": 178, "quotactl": 179,
    "nfsservctl": 180,
    "lookup_dcookie": 212, "clock_settime": 227, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239,
    "kexec_load": 246,
    "add_key": 248, "request_key": 249, "keyctl": 250, "migrate_pages": 256, "unshare": 272, "move_pages": 279,
    "perf_event_open": 298, "fanotify_init": 300, "open_by_handle_at": 304, "setns": 308, "kcmp": 312,
    "finit_module": 313,
    "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "clone3": 435, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
    "set_mempolicy_home_node": 450, "lsm_get_self_attr": 459, "lsm_set_self_attr": 460, "lsm_list_modules": 461,
    "open_tree_attr": 467, "vhangup": 153, "syslog": 103,
}  # fmt: skip
NUMBERS = {name: number for name, number in DANGEROUS.items() if number is not None}
# Every call in a child of its own, with arguments that no call can use; what hangs is ended by its alarm.
SWEEP = """
import signal
def in_child(number):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.setpgid(0, 0)
        signal.alarm(1)
        answer = TRY(number)
        libc.write(write, struct.pack('q', answer), 8)
        os._exit(0)
    os.close(write)
    data = b''
    try:
        data = os.read(read, 8)
    except OSError:
        pass
    os.close(read)
    _, status = os.waitpid(pid, 0)
    if len(data) == 8:
        return struct.unpack('q', data)[0]
    return f'signal {os.WTERMSIG(status)}' if os.WIFSIGNALED(status) else f'status {status >> 8}'
tell({number: in_child(number) for number in json.loads(sys.argv[1])})
"""
NATIVE = "TRY = lambda number: call(number, -1, -1, -1, -1, -1, -1)\n" + SWEEP
X32 = "TRY = lambda number: call(number | 0x40000000, -1, -1, -1, -1, -1, -1)\n" + SWEEP
# push rbx; mov eax, edi; mov ebx, -1; mov ecx, -1; mov edx, -1; int 0x80; pop rbx; movsxd rax, eax; ret
I386 = (
    """
import mmap
code = bytes.fromhex('53 89f8 bbffffffff b9ffffffff baffffffff cd80 5b 4863c0 c3')
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
entry = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
TRY = lambda number: entry(number)
"""
    + SWEEP
)


def sweep(program: str, numbers: list[int], run: object = inside, **options: object) -> dict[int, int | str]:
    import json

    assert callable(run)
    return {int(number): answer for number, answer in run(program, json.dumps(numbers), **options).items()}


def test_cve_2021_41133_every_number() -> None:
    """Numbers 0 to 600: the dangerous ones are refused, those that no table knows do not exist, and the rest works."""
    answers = sweep(NATIVE, list(range(601)))
    assert {name: answers[number] for name, number in NUMBERS.items() if answers[number] not in REFUSED} == {}
    unknown = [number for number in (*range(337, 424), *range(480, 601))]
    assert {number: answers[number] for number in unknown if answers[number] != -38} == {}
    # With these arguments no call of the table succeeds in changing anything; what works at all answers otherwise.
    working = [number for number, answer in answers.items() if answer not in REFUSED]
    assert 250 < len(working) < 400, len(working)


def test_control_of_cve_2021_41133_the_kernel_has_them() -> None:
    """Without a filter the same calls are looked at: EFAULT, EINVAL, EBADF, not EPERM."""
    harmless = {name: number for name, number in NUMBERS.items() if name not in ("vhangup", "reboot")}
    answers = sweep(NATIVE, list(harmless.values()), outside)
    alive = [name for name, number in harmless.items() if answers[number] not in REFUSED]
    assert {"userfaultfd", "io_uring_setup", "open_tree", "keyctl", "bpf" if os.geteuid() == 0 else "fsopen"} & set(
        alive
    )
    assert len(alive) > (30 if os.geteuid() == 0 else 10), alive


def test_cve_2021_41133_x32_numbers() -> None:
    """The same numbers with the x32 bit: nothing answers but EPERM, ENOSYS, or the end of the process."""
    answers = sweep(X32, list(range(601)))
    assert {number: answer for number, answer in answers.items() if answer not in (*REFUSED, "signal 31")} == {}


def test_cve_2026_31431_i386_calls_kill() -> None:
    """int 0x80: seccomp cannot see behind socketcall's pointer, so the architecture is refused as a whole (SIGSYS)."""
    answers = sweep(I386, [*range(0, 440, 7), 102, 359])
    assert set(answers.values()) == {"signal 31"}, answers


def test_control_of_i386_the_machine_code_calls() -> None:
    """The same bytes without a filter: getpid, number 20 on i386. Where the kernel has no i386, it is ENOSYS by a
    signal.
    """
    answer = sweep(I386, [20], outside)[20]
    assert (isinstance(answer, int) and answer > 0) or answer == "signal 11", answer


TERMINAL = """
import pty
answers = {}
master, slave = pty.openpty()
for name, request in (('TIOCSTI', 0x5412), ('TIOCLINUX', 0x541c)):
    for high in (0, 0xFFFFFFFF00000000, 0x100000000, 0x8000000000000000):
        text = ctypes.create_string_buffer(b'x')
        answers[f'{name}+{high:x}'] = call(16, slave, request | high, ctypes.addressof(text))
answers['TCGETS'] = call(16, slave, 0x5401, room(64))
tell(answers)
"""


@pytest.mark.parametrize("tty", [False, True])
def test_cve_2017_5226_tiocsti_and_tioclinux(tty: bool) -> None:
    """Also CVE-2023-28100 (a high bit set, which the kernel ignores) and CVE-2016-10124: refused by the filter, with
    EPERM.

    On the container's own pty, where the kernel itself would let container root with CAP_SYS_ADMIN do it; TCGETS shows
    that it is a terminal that answers.
    """
    answers = inside(TERMINAL, tty=tty, stderr=None)
    assert answers.pop("TCGETS") == 0
    assert set(answers.values()) == {-1}, answers


@pytest.mark.requires("root")
def test_control_of_cve_2017_5226_a_terminal_takes_input() -> None:
    """Without a filter root's TIOCSTI on a pty works, or the kernel has it switched off (dev.tty.legacy_tiocsti, 6.2:
    EIO).
    """
    answers = outside(TERMINAL)
    assert answers["TIOCSTI+0"] in (0, -5)
    assert answers["TIOCSTI+100000000"] == answers["TIOCSTI+0"], "the kernel cuts the request to 32 bits"


SOCKETS = """
answers = {}
for family in range(0, 50):
    for kind in (1, 2, 3, 5):
        got = call(41, family, kind, 0)
        pair = call(53, family, kind, 0, room(8))
        answers[f'{family}/{kind}'] = [got if got < 0 else 0, pair if pair < 0 else 0]
tell(answers)
"""


def test_cve_2026_31431_socket_families() -> None:
    """AF_UNSPEC, UNIX, INET, INET6 and NETLINK only; AF_ALG (38), AF_VSOCK (40), AF_PACKET (17), AF_KEY (15, xfrm:
    CVE-2026-43284), RDS (21: CVE-2026-43494), SMC, TIPC, CAN... answer with the filter's EPERM.

    This kernel has no AF_ALG, RDS or SCTP: without the filter EAFNOSUPPORT (97) is what they say, so no control can
    fire for them; EPERM instead of 97 is the proof that the filter answered. AF_PACKET is the one whose control fires
    (below).
    """
    answers = inside(SOCKETS)
    for name, (single, pair) in answers.items():
        family = int(name.split("/")[0])
        if family not in (0, 1, 2, 10, 16):
            assert (single, pair) == (-1, -1), name
    assert answers["1/1"] == [0, 0]
    assert answers["2/1"][0] == 0
    assert inside("tell(call(41, 2, 3, 1))") == -1, "a raw socket needs CAP_NET_RAW, which is not given"


@pytest.mark.requires("root")
def test_control_of_cve_2026_43284_families_without_a_filter() -> None:
    answers = outside(SOCKETS)
    assert answers["17/3"][0] == 0, "AF_PACKET opens for root"
    assert answers["38/5"][0] in (0, -97)


NAMESPACES = """
answers = {}
flags = {'NEWUSER': 0x10000000, 'NEWNS': 0x20000, 'NEWNET': 0x40000000, 'NEWPID': 0x20000000, 'NEWUTS': 0x4000000,
    'NEWIPC': 0x8000000, 'NEWCGROUP': 0x2000000}
for name, flag in flags.items():
    answers['unshare ' + name] = call(272, flag)
    pid = call(56, flag | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    answers['clone ' + name] = min(pid, 0)
args = (ctypes.c_uint64 * 11)(flags['NEWUSER'], 0, 0, 0, 17)
pid = call(435, ctypes.addressof(args), 88)
if pid == 0:
    os._exit(0)
answers['clone3'] = min(pid, 0)
for name in os.listdir('/proc/self/ns'):
    fd = os.open('/proc/self/ns/' + name, os.O_RDONLY)
    answers['setns ' + name] = call(308, fd, 0)
answers['setns pidfd'] = call(308, os.pidfd_open(os.getpid()), flags['NEWUSER'])
answers['fsopen'] = call(430, b'tmpfs', 0)
answers['open_tree'] = call(428, -100, b'/', 1)
answers['mount'] = call(165, b'none', b'/tmp', b'tmpfs', 0, 0)
answers['umount2'] = call(166, b'/proc', 2)
answers['keyctl'] = call(250, 0, -3, 0)
answers['bpf'] = call(321, 0, room(128), 128)
answers['perf_event_open'] = call(298, room(128), 0, -1, -1, 0)
answers['io_uring_setup'] = call(425, 4, room(128))
answers['userfaultfd'] = call(323, 1)
answers['fork'] = min(call(57), 0) if False else 0
tell(answers)
"""


@pytest.mark.parametrize("user", [0, pytest.param(1000, marks=pytest.mark.requires("ids"))])
def test_cve_2022_0185_no_new_namespaces_inside(user: int) -> None:
    """Also CVE-2021-22555, CVE-2023-1829, CVE-2022-23222 and all that begin with capabilities in a user namespace of
    one's own (row 120).
    """
    answers = inside(NAMESPACES, user=user)
    assert answers.pop("fork") == 0
    assert {name: answer for name, answer in answers.items() if answer not in REFUSED} == {}


@pytest.mark.requires("userns")
def test_control_of_cve_2022_0185_the_kernel_would(scratch: object) -> None:
    """Without the filter the first step is free for anyone."""
    assert outside("tell(call(272, 0x10000000 | 0x20000))") == 0
    answers = inside("tell(call(272, 0x10000000))", security=pc.Security(seccomp="unconfined"))
    assert answers == 0, "it was not the filter that refused"


PROTOCOLS = """
answers = {}
# Message types: RTM_NEWLINK, RTM_NEWTFILTER (tcindex), RTM_NEWACTION (pedit), XFRM_MSG_NEWSA, a batch of nfnetlink.
for name, family, kind in (('link', 0, 16), ('filter', 0, 44), ('action', 0, 48), ('xfrm', 6, 16),
    ('netfilter', 12, 0xa00)):
    try:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
    except OSError as error:
        answers[name] = -error.errno
        continue
    made.settimeout(5)
    made.send(struct.pack('=IHHII', 48, kind, 5, 1, 0) + b'\\0' * 32)  # 5 is REQUEST | ACK
    answers[name] = struct.unpack('=i', made.recv(4096)[16:20])[0]
pair = socket.socketpair(socket.AF_UNIX)
listening = socket.create_server(('127.0.0.1', 0))
tcp = socket.create_connection(listening.getsockname())
answers['espintcp'] = attempt(tcp.setsockopt, socket.IPPROTO_TCP, 31, b'espintcp')[0]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
answers['encapsulated'] = attempt(udp.setsockopt, socket.IPPROTO_UDP, 100, struct.pack('i', 2))[0]
answers['policy'] = attempt(udp.setsockopt, socket.IPPROTO_IP, 17, bytes(168))[0]
for name, words in {'raw 6': (10, 3, 44), 'raw': (2, 3, 255), 'packet': (17, 3, 0), 'rds': (21, 5, 0),
    'sctp': (2, 1, 132), 'sctp 6': (10, 5, 132), 'ping 6': (10, 2, 58)}.items():
    answers[name] = min(call(41, *words), 0)
answers['tun'] = attempt(os.open, '/dev/net/tun', os.O_RDWR)[0]
tell(answers)
"""
LOOPBACK = "import fcntl; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14x', b'lo', 1))"
NETLINK = ["link", "filter", "action", "xfrm", "netfilter"]


def test_row_124_protocol_holes_need_capabilities() -> None:
    """CVE-2026-46300 (espintcp), CVE-2026-46331 (an action of tc) and CVE-2023-1829 (a filter of tc) take NET_ADMIN,
    which is not given, over a network namespace, of which one's own cannot be had. CVE-2026-53362 takes fragments that
    no honest sender makes: raw, packet and tun are refused, and what the kernel cuts itself is well-formed.
    CVE-2026-43494 (RDS) is refused by its family. CVE-2026-64564 (SCTP) is not: the filter looks at families, and it is
    this kernel that has none. The control is the next test; for xfrm, espintcp, RDS and SCTP none can fire here.
    """
    answers = inside(PROTOCOLS)
    # EPERM, or what a kernel without it says: EPROTONOSUPPORT, EOPNOTSUPP.
    assert {name: answers[name] for name in NETLINK if answers[name] not in (-1, -93, -95)} == {}
    assert {answers[name] for name in ("link", "filter", "action")} == {-1}
    assert answers["espintcp"] == "refused"
    assert answers["tun"] == "refused"
    assert {answers[name] for name in ("raw", "raw 6", "packet", "rds")} == {-1}
    assert {answers[name] for name in ("sctp", "sctp 6")} <= {-93, -94}


@pytest.mark.requires("root")
def test_control_of_row_124_root_of_a_network_namespace_may() -> None:
    """The same program with all capabilities over a new namespace: not EPERM but what the message itself deserves."""
    answers = outside(f"assert call(272, 0x40000000) == 0\n{LOOPBACK}\n{PROTOCOLS}")
    assert {name: answers[name] for name in ("link", "filter", "action") if answers[name] == -1} == {}
    assert {answers[name] for name in ("raw", "raw 6", "packet")} == {0}


def test_the_tables_here_are_for_this_machine() -> None:
    assert platform.machine() == "x86_64"
