"""Attacks from compiled programs, and from the text that is compiled."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
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


#: Bytes, resident or written, and seconds from which a compiler counts as taking all it can get.
_TOO_MUCH = 400 * MIB
_TOO_LONG_S = 3.0


def _took_it_all(world: World, result: JobResult) -> str:
    if result.ok or result.peak_memory > _TOO_MUCH or result.wall_s > _TOO_LONG_S:
        return f"compiled for {result.wall_s:.1f} s in {result.peak_memory / MIB:.0f} MiB"
    return ""


def _bomb(name: str, source: str) -> Attack:
    """Text that costs its compiler more than it is given: all time, all memory, all of the disk."""
    return _compile(
        f"compiler bomb: {name}",
        source,
        _took_it_all,
        command=("g++", "-std=gnu++20", "-O2", "-w", "-fmax-errors=5"),
        limits=Limits(
            wall_s=1.5, memory=256 * MIB, scratch=64 * MIB, output=MIB, result=8 * MIB, processes=16
        ),
        control=lambda world: _takes_it_all(source),
    )


def _takes_it_all(source: str) -> str:
    """Compile a bomb without a sandbox, but within bounds that this machine can stand."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "main.cpp").write_text(source)
        command = ["prlimit", f"--as={GIB}", f"--fsize={GIB}", "g++", "-O2", "-w", "main.cpp"]
        started = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + _TOO_LONG_S
        pid = 0
        while not pid and time.monotonic() < deadline:
            time.sleep(0.02)
            pid, _, used = os.wait4(started.pid, os.WNOHANG)
        if not pid:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
            return f"compiled for {_TOO_LONG_S:g} s"
        started.returncode = 0  # reaped above
        made = sum(path.stat().st_size for path in pathlib.Path(folder).iterdir())
    if made > _TOO_MUCH:
        return f"wrote {made / MIB:.0f} MiB"
    return f"took {used.ru_maxrss / 1024:.0f} MiB" if used.ru_maxrss * 1024 > _TOO_MUCH else ""


_MACRO_BOMB = "#define A0 1+\n" + "".join(f"#define A{i} {f'A{i - 1} ' * 10}\n" for i in range(1, 10))
_TEMPLATE_BOMB = """
template <int D, int N> struct T { static constexpr int v = T<D - 1, 2 * N>::v + T<D - 1, 2 * N + 1>::v; };
template <int N> struct T<0, N> { static constexpr int v = N; };
int main() { return T<24, 0>::v; }
"""
_INCLUDE_BOMB = """
#if __INCLUDE_LEVEL__ < 60
#include __FILE__
#include __FILE__
#endif
int main() {}
"""

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
    _bomb("a device without end", "#include </dev/urandom>\nint main() {}"),
    _bomb("a device without end, as a header's name", "#define D </dev/zero>\n#include D\nint main() {}"),
    _bomb("macros that multiply", f"{_MACRO_BOMB}int x = A9 0;\nint main() {{}}"),
    _bomb("templates that multiply", _TEMPLATE_BOMB),
    _bomb("a file that includes itself twice", _INCLUDE_BOMB),
    _bomb("a line without end", f"int x = {'1+' * 250_000}1;\nint main() {{}}"),
    _bomb("parentheses", f"int x = {'(' * 200_000}1{')' * 200_000};\nint main() {{}}"),
    _bomb("a program of 500 MiB", "char big[500u << 20] = {1};\nint main() { return big[5]; }"),
    _bomb("an alignment of 256 MiB", "alignas(1 << 28) char one = 1;\nint main() { return one; }"),
]

if os.uname().machine == "x86_64":
    ATTACKS += [
        _program("C++: int 0x80", _INT80),
        # answered on kernels without x32 too, by ENOSYS: only a kill keeps the table out of reach everywhere
        _program("C++: x32 call", '    syscall(0x40000000 + 39);\n    printf("yes");'),
    ]
