"""What Windows and macOS have not is not called, or only where a file asks for it first."""

import ast
import re
import textwrap
from pathlib import Path
from typing import Final

SOURCES: Final = sorted((Path(__file__).resolve().parents[1] / "src").rglob("*.py"))
ABSENT_MODULES: Final = {
    "crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline",
    "resource", "spwd", "syslog", "termios", "tty", "msvcrt", "winreg", "winsound", "_winapi",
}  # fmt: skip
"""Of the standard library, on one of the three systems."""

ABSENT: Final = {
    "os": r"fork|forkpty|register_at_fork|sched_\w+|get(e?[ug]id|res[ug]id|groups|pgid|pgrp|sid"
    r"|loadavg|priority|random|xattr)|set(e?[ug]id|res?[ug]id|groups|pgid|pgrp|sid|priority|xattr)|uname"
    r"|l?chown|fchown|fchmod|lchmod|l?chflags|chroot|mkfifo|mknod|makedev|nice|killpg|wait\w*"
    r"|pread\w*|pwrite\w*|readv|writev|posix_\w+|sendfile|splice|copy_file_range|pipe2|openpty"
    r"|ttyname|ctermid|tc[gs]etpgrp|statvfs|fstatvfs|f?pathconf|sysconf|confstr|sync|fdatasync"
    r"|memfd_create|eventfd\w*|pidfd_open|lockf|startfile|O_(NOFOLLOW|DIRECTORY|NONBLOCK|CLOEXEC"
    r"|SYNC|DSYNC|DIRECT|NOCTTY|TMPFILE|PATH|NOATIME|BINARY|TEXT|NOINHERIT|SEQUENTIAL|RANDOM)",
    "signal": r"SIG(ALRM|BUS|CHLD|CLD|CONT|HUP|IO|KILL|PIPE|POLL|PROF|PWR|QUIT|RT\w+|STOP|SYS|TRAP"
    r"|TSTP|TT\w+|URG|USR\d|VTALRM|WINCH|XCPU|XFSZ|BREAK)|CTRL_\w+|alarm|[sg]etitimer|pause"
    r"|pthread_\w+|sig(wait\w*|timedwait|pending|interrupt)|siginterrupt",
    "socket": r"AF_(UNIX|NETLINK|PACKET|VSOCK)|SO_REUSEPORT|socketpair_unix|sethostname|CMSG_\w+",
    "time": r"tzset|clock_settime|pthread_\w+",
    "select": r"poll|e?poll|kqueue|kevent|devpoll",
    "mmap": r"MAP_\w+|PROT_\w+|MADV_\w+",
}  # fmt: skip
"""Names that one of the three systems has not, by their module."""

PLACES: Final = re.compile(r"^(/dev/|/proc/|/sys/|/tmp|/etc/|/var/|~/)")


def posix_only(text: str) -> list[str]:
    """Return what a file takes from one system that the others have not, without asking first.

    To ask is `hasattr(module, "NAME")` around it, or `getattr(module, "NAME", other)` for it; of
    a place to be ready for an `OSError`.
    """
    tree = ast.parse(text)
    asked = {
        _family(node.args[0].id, str(node.args[1].value))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "hasattr"
        and isinstance(node.args[0], ast.Name)
        and isinstance(node.args[1], ast.Constant)
    }
    ready = {
        id(node)
        for attempt in ast.walk(tree)
        if isinstance(attempt, ast.Try)
        and any("OSError" in ast.dump(handler.type or handler) for handler in attempt.handlers)
        for part in attempt.body
        for node in ast.walk(part)
    }
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [a.name for a in names if a.name.partition(".")[0] in ABSENT_MODULES]
            case ast.ImportFrom(module=str(module), names=names):
                found += [module] if module in ABSENT_MODULES else []
                found += [f"{module}.{a.name}" for a in names if _absent(module, a.name)]
            case ast.Attribute(value=ast.Name(id=module), attr=name) if _absent(module, name):
                found += [] if _family(module, name) in asked else [f"{module}.{name}"]
            case ast.Constant(value=str(place)) if PLACES.match(place):
                found += [] if id(node) in ready else [place]
    return found


def _family(module: str, name: str) -> str:
    """Return what names share that come together: both of `os.sched_...` or none."""
    return f"{module}.{name if name.isupper() else name.partition('_')[0]}"


def _absent(module: str, name: str) -> bool:
    return module in ABSENT and re.fullmatch(ABSENT[module], name) is not None


def test_nothing_is_taken_that_other_systems_have_not() -> None:
    found = {path.name: posix_only(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert len(found) > 100
    assert {name: taken for name, taken in found.items() if taken} == {}


def test_what_is_taken_would_be_seen() -> None:
    code = """
        import fcntl, os, signal
        from resource import getrlimit
        from os import fork
        os.kill(os.getpid(), signal.SIGUSR1)
        if hasattr(os, "sched_getaffinity"):
            os.sched_getaffinity(0)
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | os.O_DIRECTORY
        open("/dev/null")
        try:
            open("/proc/cpuinfo")
        except OSError:
            pass
        signal.signal(signal.SIGTERM, None)
    """
    assert sorted(posix_only(textwrap.dedent(code))) == [
        "/dev/null", "fcntl", "os.O_DIRECTORY", "os.fork", "resource", "signal.SIGUSR1",
    ]  # fmt: skip
