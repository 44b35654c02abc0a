# SPDX-License-Identifier: MIT
"""What is there after a cut, held against what was acknowledged before it.

An environment is compared byte for byte with one that was made the same way while nothing was cut; what depends on the
name and the prompt is put in their place, and the one file with digests of such files (RECORD) is computed.
"""
import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import select
import stat
import time

from conftest import Closed, VarlinkError
from helpers import children

from load import PYTHON, Environment, State

DEADLINE = 60
AT_ONCE = 400                           # files that are opened
GOING = 60                              # seconds that the rest of removals may take
NAME, PROMPT = "rqzx0", "rqzp0"         # of the references; they occur in no file but for that
MARK = "mark"


class Violation(Exception):
    """kind: lost, short, broken, trace"""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


def read_files(files, cache):
    """Bytes of each, by inode. Many are asked for before the first is waited for."""
    for at in range(0, len(files), AT_ONCE):
        with contextlib.ExitStack() as stack:
            opened = [(ino, stack.enter_context(open(path, "rb", buffering=0))) for path, ino in files[at:at + AT_ONCE]]
            for _, f in opened:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
            for ino, f in opened:
                cache[ino] = f.readall()


def read(top, cache=None, skip=()):
    """relative name -> (kind, mode, bytes or target, mtime) of everything below top, and of top."""
    found, stack, cache, files, wanted = {}, [(os.fspath(top), ".")], {} if cache is None else cache, {}, {}
    while stack:
        directory, relative = stack.pop()
        found[relative] = ("dir", stat.S_IMODE(os.lstat(directory).st_mode), b"", 0)
        for entry in os.scandir(directory):
            name = entry.name if relative == "." else f"{relative}/{entry.name}"
            if name in skip:
                continue
            st = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(st.st_mode):
                stack.append((entry.path, name))
            elif stat.S_ISLNK(st.st_mode):
                found[name] = ("link", 0, os.readlink(entry.path).encode(), 0)
            else:
                files[name] = st
                # What several share is read once.
                if st.st_nlink == 1 or st.st_ino not in cache:
                    wanted[st.st_ino] = entry.path
    read_files([(path, ino) for ino, path in wanted.items()], cache)
    for name, st in files.items():
        found[name] = ("file", stat.S_IMODE(st.st_mode), cache[st.st_ino], st.st_mtime_ns)
    return found


def complain(path, found, wanted, kind="broken"):
    """What differs; a file that is too short is a violation of its own kind."""
    words, short = [], False
    for name in sorted({*found, *wanted}):
        have, want = found.get(name), wanted.get(name)
        if have is None:
            words.append(f"{name} is not there")
        elif want is None:
            words.append(f"{name} is too much")
        elif have[0] != want[0] or have[1] != want[1]:
            words.append(f"{name} is a {have[0]} of mode {have[1]:o}, not a {want[0]} of {want[1]:o}")
        elif have[2] != want[2]:
            less = have[0] == "file" and len(have[2]) < len(want[2])
            short = short or less
            words.append(f"{name} has {len(have[2])} bytes of {len(want[2])}" if less else f"{name} has other bytes")
        elif want[3] and have[3] != want[3]:
            words.append(f"{name} has another time")
    if words:
        raise Violation("short" if short else kind, f"{path}: {len(words)} differ: {'; '.join(words[:6])}")


class References:
    """What environments, the pool's entries and images look like; taken before the first cut."""

    def __init__(self, daemon):
        self.trees, self.buckets, state = {}, {}, daemon.root / ".venvd"
        for pip in (False, True):
            for prompt, site in ((None, False), (PROMPT, True)):
                parameters = {"prompt": prompt} if prompt else {}
                pair = []
                for name in (NAME, NAME + "b"):
                    daemon.call("Create", name=name, python=PYTHON, withoutPip=not pip, systemSitePackages=site, **parameters)
                    self.take_entries(state / "pool")
                    pair.append(read(daemon.root / name))
                    daemon.call("Delete", name=name, now=True)
                self.trees[pip, site] = {n: self.template(n, *pair) for n in pair[0]}
        idle(daemon)
        self.images = read(state / "images", skip=self.used(state))
        if len(self.buckets) != 2:
            raise Violation("broken", f"the pool has had {sorted(self.buckets)} before any cut")

    def take_entries(self, pool):
        """One of each bucket. Nobody claims them meanwhile, and what is in a bucket is complete."""
        for bucket in pool.iterdir():
            if bucket.is_dir() and bucket.name not in self.buckets:
                entry = next(bucket.iterdir(), None)
                if entry:
                    self.buckets[bucket.name] = without_blanks(read(entry))

    @staticmethod
    def used(state):
        return {f"{p.name}/used" for p in (state / "images").iterdir()}

    @staticmethod
    def template(name, one, other):
        kind, mode, data, mtime = one[name]
        variable = NAME.encode() in data or PROMPT.encode() in data
        # What is installed keeps its time, for bytecode is held against it; the rest is as old as it is.
        return kind, mode, data, mtime if name.startswith("lib/") and other[name][3] == mtime else 0, variable

    def expected(self, env):
        """The tree of an environment of that name, made as this one was."""
        tree = {}
        for name, (kind, mode, data, mtime, variable) in self.trees[env.pip, env.site].items():
            if variable:
                data = data.replace(NAME.encode(), env.name.encode()).replace(PROMPT.encode(), (env.prompt or "").encode())
            tree[name] = (kind, mode, data, mtime)
        for name in tree:
            if name.endswith(".dist-info/RECORD"):
                tree[name] = (*tree[name][:2], record(tree[name][2], name, tree), 0)
        if env.mark is not None:
            tree[MARK] = ("file", 0o644, env.mark, 0)
        return tree


def record(text, name, tree):
    """RECORD with the digests that its scripts have here."""
    site, lines = os.path.dirname(os.path.dirname(name)), []
    for line in text.decode().splitlines(keepends=True):
        path, comma, rest = line.partition(",")
        real = os.path.normpath(f"{site}/{path}")
        if path.startswith("../") and rest.strip(",\r\n") and real in tree:
            data = tree[real][2]
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rest = f"sha256={digest},{len(data)}" + line[len(line.rstrip("\r\n")):]
        lines.append(path + comma + rest)
    return "".join(lines).encode()


def without_blanks(tree):
    """Of the files that name a path an entry has blanks. A cut brings some back that a claim had written to, and on btrfs made
    longer: a claim relies on nothing of them."""
    tree = without_times(tree)
    for name, (kind, mode, _, _) in tree.items():
        if kind == "file" and (not name.startswith("lib/") or "/pip-" in name and name.endswith("/RECORD")) and not name.endswith(".ps1"):
            tree[name] = (kind, mode, b"", 0)
    return tree


def without_times(tree):
    return {n: (*v[:3], 0) for n, v in tree.items()}


def a_worker_ends(daemon):
    """Waits for it, but not long: there may be none."""
    descriptors = []
    for pid in children(daemon.pid):
        with contextlib.suppress(ProcessLookupError):
            descriptors.append(os.pidfd_open(pid))
    select.select(descriptors, [], [], 0.1)
    for fd in descriptors:
        os.close(fd)


def idle(daemon):
    """Until no order is under way, and nothing is left in the stage."""
    stage = daemon.root / ".venvd/stage"
    end = time.monotonic() + DEADLINE
    with daemon.connect() as connection:
        while True:
            status = connection.call("Status")
            left = sorted(os.listdir(stage))
            if status["jobsRunning"] + status["jobsQueued"] == 0 and not left:
                return status
            if time.monotonic() > end:
                raise Violation("trace", f"it is never idle: {status['jobsRunning']} jobs, in the stage {left}")
            a_worker_ends(daemon)


class Audit:
    """One root after one cut. `window` of each client: so many requests were acknowledged, so many asked for."""

    def __init__(self, daemon, references, clients, windows, counts, seen):
        self.daemon, self.references, self.counts = daemon, references, counts
        self.clients, self.windows, self.cache, self.seen = clients, windows, {}, seen

    def again_or_new(self, path, *which):
        """What was read after an earlier cut is on the disk, and every fourth time it is read again."""
        key = (os.fspath(path), os.lstat(path).st_ino, *which)
        self.seen[key] += 1
        return self.seen[key] % 4 == 1

    def look(self):
        self.live, trash = self.daemon.environments(), self.daemon.trash()
        self.trash = sorted(trash, key=lambda t: t["deletedAt"])
        state = self.daemon.root / ".venvd"
        names = {p.name for p in self.daemon.root.iterdir() if not p.name.startswith(".")}
        if set(self.live) != names:
            raise Violation("lost", f"rows {sorted(self.live)}, directories {sorted(names)}")
        entries = {p.name for p in (state / "trash").iterdir()} if (state / "trash").exists() else set()
        if entries != {pathlib.Path(t["path"]).parent.name for t in self.trash}:
            raise Violation("lost", f"the trash has {sorted(entries)}, its rows are {[t['path'] for t in self.trash]}")

    # --- which of its states a client has ---

    def has(self, client):
        live = {n: r for n, r in self.live.items() if n in client.names}
        return live, [t for t in self.trash if t["name"] in client.names]

    @staticmethod
    def same(state, live, trash):
        if set(state.live) != set(live) or len(state.trash) != len(trash):
            return False
        if any(e.id not in (None, live[n]["id"]) for n, e in state.live.items()):
            return False
        rows = {t["id"]: t["name"] for t in trash}
        known = [t for t in state.trash if t.id]
        rest = sorted(n for i, n in rows.items() if i not in {t.id for t in known})
        return all(rows.get(t.id) == t.name for t in known) and rest == sorted(t.name for t in state.trash if not t.id)

    def which(self, client, states, when):
        """The last of these that it has, by number, and that state with every id."""
        live, trash = self.has(client)
        for k in reversed(range(len(states))):
            if self.same(states[k], live, trash):
                return k, self.complete(states[k], live, trash)
        raise Violation("lost", f"client {client.number} has {self.describe_rows(live, trash)}, {when}; but it must have "
                        + ", or ".join(map(describe, states)))

    def state_of(self, client, window):
        done = [f"{r.method} {r.parameters}" for r in client.requests[max(0, window[0] - 2):window[1]]]
        k, state = self.which(client, client.states[window[0]:window[1] + 1],
                              f"its last requests were {done}, {window[0]} of {window[1]} acknowledged")
        return window[0] + k, state

    @staticmethod
    def complete(state, live, trash):
        """The same with the ids that no answer has told."""
        known = {t.id for t in state.trash}
        spare = [t for t in trash if t["id"] not in known]
        entries = []
        for t in state.trash:
            if t.id is None:
                row = next(r for r in spare if r["name"] == t.name)
                spare.remove(row)
                t = dataclasses.replace(t, id=row["id"])
            entries.append(t)
        return State({n: dataclasses.replace(e, id=live[n]["id"]) for n, e in state.live.items()}, tuple(entries))

    @staticmethod
    def describe_rows(live, trash):
        return f"{sorted((n, r['id'], r['state']) for n, r in live.items())}, trash {[(t['name'], t['id']) for t in trash]}"

    # --- whether it is whole ---

    def whole(self, state):
        for name, env in state.live.items():
            row = self.live[name]
            if row["state"] != "ready" or row.get("problem") or row["origin"] != "created" or row["pip"] != env.pip:
                raise Violation("lost", f"'{name}' is {row}")
            self.tree(self.daemon.root / name, env)
        rows = {t["id"]: t for t in self.trash}
        for env in state.trash:
            tree = pathlib.Path(rows[env.id]["path"])
            try:
                said = json.loads((tree.parent / "record.json").read_bytes())
            except (OSError, ValueError) as e:
                raise Violation("short", f"{tree.parent}/record.json: {e}") from e
            if (said.get("name"), said.get("id")) != (env.name, env.id):
                raise Violation("broken", f"{tree.parent}/record.json is of {said.get('name')}, {said.get('id')}")
            self.tree(tree, env)

    def tree(self, path, env):
        if not self.again_or_new(path, env):
            return
        found = read(path, self.cache)
        complain(path, found, self.references.expected(env))
        self.counts["trees"] += 1
        self.counts["files"] += sum(v[0] == "file" for v in found.values())

    def prepared(self):
        """The pool's entries and the images are whole, or not there."""
        state = self.daemon.root / ".venvd"
        for bucket in (state / "pool").iterdir():
            for entry in bucket.iterdir() if bucket.is_dir() else ():
                if not self.again_or_new(entry):
                    continue
                found = read(entry, self.cache)
                complain(entry, without_blanks(found), self.references.buckets[bucket.name])
                self.counts["entries"] += 1
        if self.again_or_new(state / "images"):
            complain(state / "images", without_times(read(state / "images", self.cache, References.used(state))),
                     without_times(self.references.images))

    # --- a request that is made again ---

    def again(self, connection, request, there, exact):
        """Of one that was acknowledged; `there`: the ids that there are; exact: nothing has happened since."""
        try:
            answer = connection.call(request.method, **request.parameters)
        except VarlinkError as e:
            gone = id_in(request.answer) not in there and e.name == "NoSuchEnvironment" and request.method != "Delete"
            if not gone:
                raise Violation("lost", f"{request.method} {request.parameters} again: {e}") from e
            return
        old, new = request.answer.get("environment"), answer.get("environment")
        if old and not new and not (request.method == "Delete" and old["id"] not in there):
            raise Violation("lost", f"{request.method} {request.parameters} again: {answer}")
        if old and new and (old["id"] != new["id"] or (exact and differ(old, new))):
            raise Violation("lost", f"{request.method} {request.parameters} again: {new}, not {old}")

    def repeat(self, client, window, k, state, there):
        """Everything that was acknowledged again, and then what was left open, which leads to its end: the state then."""
        with self.daemon.connect() as connection:
            for i, request in enumerate(client.requests[:window[0]]):
                if request.answer is not None:
                    self.again(connection, request, there, i + 1 == k)
                    self.counts["again"] += 1
            if window[1] == window[0]:
                return state
            # One that may or may not have happened: again it is answered, and has happened once.
            at = k if k < window[1] else k - 1
            request = client.requests[at]
            try:
                answer = connection.call(request.method, **request.parameters)
            except VarlinkError as e:
                raise Violation("lost", f"{request.method} {request.parameters}, left open, again: {e}") from e
            self.counts["undone" if at == k else "done"] += 1
            return request.after(answer) if at == k else state

    def bring_back(self, state):
        """One that was deleted can be restored: the state then."""
        env = next((t for t in reversed(state.trash) if t.name not in state.live), None)
        if env is None:
            return state
        try:
            self.daemon.call("Restore", name=env.name, id=env.id)
        except VarlinkError as e:
            raise Violation("lost", f"'{env.name}' cannot be restored: {e}") from e
        self.tree(self.daemon.root / env.name, env)
        self.counts["restored"] += 1
        return State({**state.live, env.name: env}, tuple(t for t in state.trash if t is not env))

    def find(self):
        idle(self.daemon)
        self.look()
        found = [self.state_of(c, w) for c, w in zip(self.clients, self.windows, strict=True)]
        if sum(len(s.live) for _, s in found) != len(self.live):
            raise Violation("broken", f"there is more than anybody asked for: {sorted(self.live)}")
        for _, state in found:
            self.whole(state)
        return found

    def settle(self):
        """What has begun to go for good goes on going after a start, one after the other: its end is waited for."""
        goes = any(r.parameters.get("now") for c, w in zip(self.clients, self.windows, strict=True) for r in c.requests[:w[1]])
        end, before = time.monotonic() + GOING, dict(self.counts)
        while True:
            try:
                return self.find()
            except (Violation, FileNotFoundError):
                if not goes or time.monotonic() > end:
                    raise
                self.counts.clear()
                self.counts.update(before)

    def run(self):
        """The state of each client, with every id."""
        try:
            found = self.settle()
            self.prepared()
            there = {r["id"] for r in (*self.live.values(), *self.trash)}
            ends = [self.repeat(c, w, k, s, there)
                    for c, w, (k, s) in zip(self.clients, self.windows, found, strict=True)]
            idle(self.daemon)
            self.look()
            states = []
            for client, end, (_, state) in zip(self.clients, ends, found, strict=True):
                states.append(self.which(client, [end], "after it was asked again")[1])
                if end is not state:
                    self.whole(states[-1])
            return [self.bring_back(state) for state in states]
        except (Closed, OSError) as e:
            raise Violation("broken", f"the daemon does not go on: {e!r}") from e
        finally:
            self.counts["checks"] += sum(w[0] for w in self.windows)


def id_in(answer):
    return ((answer or {}).get("environment") or {}).get("id")


def differ(old, new):
    """Whether these are two answers; a trashed one's path may be asked for later than its clock ran."""
    return any(old.get(key) != new.get(key) for key in ("id", "name", "state", "path", "interpreter", "createdAt"))


def describe(state):
    def one(env: Environment):
        return f"{env.name}={env.id}"
    return f"[{', '.join(map(one, state.live.values()))}], trash [{', '.join(map(one, state.trash))}]"
