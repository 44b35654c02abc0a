# SPDX-License-Identifier: MIT
"""The rules of the house that no general tool knows; see ARCHITECTURE.md, "Who may include what".

Prints one line for each offence and exits 1 if there is any.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUNCTION_LINES = 80
FILE_LINES = 800
LOOP = "daemon/venvd.c"
EVENT_ROOMS = {"daemon/venvd.c", "daemon/server.c", "daemon/job.c", "daemon/watch.c", "daemon/timer.c"}
STORE_ROOMS = {"daemon/store.c", "daemon/store_row.c", "daemon/store_row.h", "daemon/store_sqlite.c"}
NO_JANSSON = {"daemon/index.c", "daemon/log.c"}
# Where the function that the loop will call stands among the arguments.
CALLBACK_AT = {
    "event_new": 3,
    "event_assign": 4,
    "event_base_once": 3,
    "evtimer_new": 1,
    "evtimer_assign": 2,
    "evsignal_new": 2,
    "evsignal_assign": 3,
    "evconnlistener_new": 1,
    "evconnlistener_new_bind": 1,
}
UNFINISHED = re.compile(r"\b(%s)\b" % "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)))

offences = []


def offence(path, line, what):
    offences.append(f"{path}:{line}: {what}")


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def without_comments(text):
    """The same text with comments and the insides of strings blanked, so that line numbers stay."""

    def blank(match):
        kept = match.group(0)
        if kept[0] == '"':
            return '"' + " " * (len(kept) - 2) + '"'
        return re.sub(r"[^\n]", " ", kept)

    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def arguments(text, start):
    """The arguments of a call whose opening bracket ends at start, split at the commas outside of brackets."""
    depth, begin, found = 0, start, []
    for at in range(start, len(text)):
        if text[at] in "([{":
            depth += 1
        elif text[at] in ")]}":
            if depth == 0:
                return [*found, text[begin:at].strip()]
            depth -= 1
        elif text[at] == "," and depth == 0:
            found.append(text[begin:at].strip())
            begin = at + 1
    return found


def check_includes(path, text):
    for match in re.finditer(r"^[ \t]*#[ \t]*include[ \t]*<([^>]+)>", text, re.M):
        name, line = match.group(1), line_of(text, match.start())
        if name.startswith(("event2/", "event.h")) and path not in EVENT_ROOMS:
            offence(path, line, f"<{name}> belongs to {', '.join(sorted(EVENT_ROOMS))}")
        if name == "sqlite3.h" and path not in STORE_ROOMS:
            offence(path, line, "<sqlite3.h> belongs to daemon/store.c, store_row.c and store_sqlite.c")
        if name == "jansson.h" and path in NO_JANSSON:
            offence(path, line, "this room does without jansson")


def check_loop(path, code):
    for match in re.finditer(r"\bevent_base_(?:dispatch|loop)\s*\(", code):
        if path != LOOP:
            offence(path, line_of(code, match.start()), f"the loop is in {LOOP} alone")
    for match in re.finditer(r"\b(%s)\s*\(" % "|".join(CALLBACK_AT), code):
        given = arguments(code, match.end())
        at = CALLBACK_AT[match.group(1)]
        if at < len(given) and not given[at].endswith("_cb"):
            offence(path, line_of(code, match.start()), f"{given[at]}: what the loop calls ends in _cb")


def check_cycles(graph):
    """Headers that include each other, however far around."""
    finished = set()
    for start in graph:
        stack = [(start, [start])]
        while stack:
            header, trail = stack.pop()
            for other in graph.get(header, ()):
                if other == start and trail:
                    offence(start, 1, "includes itself: " + " -> ".join([*trail, start]))
                elif other not in trail and other not in finished:
                    stack.append((other, [*trail, other]))
        finished.add(start)


def check_functions(paths):
    out = subprocess.run(
        ["ctags", "--languages=C", "--c-kinds=f", "--fields=+ne", "-f", "-", *map(str, paths)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for row in out.splitlines():
        first, last = re.search(r"\bline:(\d+)", row), re.search(r"\bend:(\d+)", row)
        if first and last and int(last[1]) - int(first[1]) + 1 >= FUNCTION_LINES:
            name, path = row.split("\t")[:2]
            length = int(last[1]) - int(first[1]) + 1
            offence(path, first[1], f"{name} has {length} lines, fewer than {FUNCTION_LINES} are allowed")


def check_file(path, text):
    lines = text.count("\n")
    if lines >= FILE_LINES:
        offence(path, lines, f"{lines} lines, fewer than {FILE_LINES} are allowed")
    if "SPDX-License-Identifier: MIT" not in "\n".join(text.split("\n", 2)[:2]):
        offence(path, 1, "the first line names no licence (SPDX-License-Identifier)")
    for match in UNFINISHED.finditer(text):
        offence(path, line_of(text, match.start()), f"{match.group(0)}: file an issue instead")


def main():
    c_files = [
        path.relative_to(ROOT)
        for folder in ("proto", "daemon", "daemon/worker", "client", "tests/unit", "tests/fuzz")
        for path in sorted((ROOT / folder).glob("*.[ch]"))
    ]
    others = [
        path.relative_to(ROOT)
        for pattern in ("tools/*", "tests/**/*.py", "tests/**/*.sh", ".ci/run", "Makefile")
        for path in sorted(ROOT.glob(pattern))
        if path.is_file() and path.suffix != ".pyc"
    ]
    graph = {}
    for path in c_files:
        text = (ROOT / path).read_text()
        code = without_comments(text)
        check_file(path, text)
        if path.parts[0] != "tests":
            check_includes(str(path), text)
            check_loop(str(path), code)
        names = re.findall(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+\.h)"', text, re.M)
        beside = {name: path.parent / name for name in names}
        proto = {name: Path("proto") / name for name in names}
        graph[path] = [
            beside[name] if (ROOT / beside[name]).exists() else proto[name] for name in names
        ]
    for path in others:
        check_file(path, (ROOT / path).read_text())
    check_cycles(graph)
    check_functions(c_files)
    loop = ROOT / LOOP
    if loop.exists() and not re.search(r"\bevent_base_(dispatch|loop)\s*\(", loop.read_text()):
        offence(LOOP, 1, "the loop is not here")
    print("\n".join(offences), end="\n" if offences else "")
    return 1 if offences else 0


sys.exit(main())
