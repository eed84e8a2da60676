"""Attacks from compiled programs, and from the text that is compiled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from attacks.model import Attack, tells_the_secret
from attacks.world import World
from ttd_core.sandbox.base import GIB, MIB, JobResult, Limits

_HEAD = """
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <sched.h>
#include <signal.h>
#include <fcntl.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cstdint>
"""


def _printed(world: World, result: JobResult) -> str:
    """These programs print ``yes`` when the call they make is carried out."""
    return "the call was carried out" if b"yes" in result.stdout else ""


def _dropped_or_alive(world: World, result: JobResult) -> str:
    alive = world.survivors()
    if alive:
        return f"{len(alive)} processes live on"
    time.sleep(0.7)
    left = [path.name for path in world.drop.iterdir()]
    return f"wrote {left}" if left else ""


def _not_a_crash(world: World, result: JobResult) -> str:
    """A crash must be told as one, and must cost nobody but the job."""
    ours = result.status.value == "infrastructure" or result.retries
    return "taken for our own failure" if ours or result.ok else ""


def _crash_control(world: World) -> str:
    """In the evaluator's own process it is the evaluator that dies."""
    run = subprocess.run([sys.executable, "-c", "import ctypes; ctypes.string_at(0)"], check=False)
    return "the evaluator died" if run.returncode == -signal.SIGSEGV else ""


def _program(name: str, body: str, oracle=_printed, **more) -> Attack:  # type: ignore[no-untyped-def]
    source = f"{_HEAD}\nint main() {{\n{body}\n}}\n"
    return Attack(name, source, oracle, language="c++", **more)


def _compile(name: str, source: str, oracle, **more) -> Attack:  # type: ignore[no-untyped-def]
    more.setdefault("limits", Limits(wall_s=8.0, memory=GIB, scratch=64 * MIB))
    return Attack(name, source, oracle, language="compile", **more)


def _leaked_or_built(world: World, result: JobResult) -> str:
    return "the file was built in" if result.ok else tells_the_secret(world, result)


def _hung(world: World, result: JobResult) -> str:
    if result.ok or result.wall_s > 2.5:
        return f"compiled for {result.wall_s:.1f} s"
    return ""


_CONSTEXPR_BOMB = """
constexpr unsigned long long spin(unsigned long long n) {
    unsigned long long value = n;
    for (unsigned long long i = 0; i < 4000000000ULL; ++i) value = value * 3 + i;
    return value;
}
constexpr auto bomb = spin(1);
int main() { return bomb & 1; }
"""

_INT80 = """
    long result;
    asm volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");   // getpid of the 32-bit table
    if (result > 0) printf("yes");
"""

_DAEMON = """
    prctl(PR_SET_NAME, "@mark@");
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            usleep(400000);
            int file = open("@drop@/late", O_CREAT | O_WRONLY, 0644);
            (void)!write(file, "x", 1);
            return 0;
        }
        return 0;
    }
"""

_TCP = """
    int s = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(@tcp@);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    if (s >= 0 && connect(s, (sockaddr*)&to, sizeof to) == 0) printf("yes");
"""

_READ_KEY = """
    FILE* file = fopen("@key@", "r");
    char text[200] = {};
    if (file && fgets(text, sizeof text, file)) fputs(text, stdout);
"""

_EXEC = """
    char name[] = "/bin/echo", word[] = "yes";
    char* arguments[] = {name, word, nullptr};
    execv(name, arguments);
"""


ATTACKS = [
    _program("C++: segfault", "    *(volatile int*)8 = 1;", _not_a_crash, control=_crash_control),
    _program("C++: read ~/.ssh/id_rsa", _READ_KEY, tells_the_secret),
    _program("C++: TCP to a listener", _TCP),
    _program("C++: execute a shell's tool", _EXEC),
    _program("C++: double fork, setsid, delayed file", _DAEMON, _dropped_or_alive),
    _program(
        "C++: fork bomb",
        "    int made = 0;\n    for (int i = 0; i < 60; ++i) {\n        pid_t p = fork();\n"
        "        if (p == 0) { usleep(200000); _exit(0); }\n        if (p > 0) ++made;\n    }\n"
        '    if (made == 60) printf("yes");\n    while (wait(nullptr) > 0) {}',
    ),
    _program(
        "C++: unshare",
        '    if (syscall(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNET) == 0) printf("yes");',
    ),
    _program(
        "C++: io_uring_setup",
        '    char parameters[512] = {};\n    if (syscall(425, 4, parameters) >= 0) printf("yes");',
    ),
    _program(
        "C++: memory beyond the limit",
        "    size_t size = 1500u << 20;\n    char* held = (char*)malloc(size);\n"
        '    if (!held) return 1;\n    memset(held, 1, size);\n    if (held[size / 2]) printf("yes");',
        limits=Limits(wall_s=10.0, memory=512 * MIB),
    ),
    _compile("#include of a secret", '#include "@key@"\nint main() {}', _leaked_or_built, control="compile"),
    _compile(
        ".incbin of a secret",
        'asm(".section .rodata\\n.incbin \\"@key@\\"\\n.text\\n");\nint main() {}',
        _leaked_or_built,
        control="compile",
    ),
    _compile(
        "#include of the hidden folder",
        '#include "@hidden@/answers.json"\nint main() {}',
        _leaked_or_built,
        control="compile",
    ),
    _compile(
        "constexpr bomb",
        _CONSTEXPR_BOMB,
        _hung,
        control="compile",
        command=(
            "g++",
            "-std=gnu++20",
            "-fconstexpr-ops-limit=100000000000",
            "-fconstexpr-loop-limit=2147483647",
        ),
        limits=Limits(wall_s=2.0, memory=GIB, scratch=64 * MIB),
    ),
]

if os.uname().machine == "x86_64":
    ATTACKS += [
        _program("C++: int 0x80", _INT80),
        # answered on kernels without x32 too, by ENOSYS: only a kill keeps the table out of reach everywhere
        _program("C++: x32 call", '    syscall(0x40000000 + 39);\n    printf("yes");'),
    ]
