# SPDX-License-Identifier: MIT
"""Clients that ask for everything the crash protocol promises something about, and remember what they were answered.

Each client has names of its own and waits for each answer, so what it has is a list of states: one for each request, in
order. After a cut there must be one of those between the last that was acknowledged and the last that was asked for.
"""
import contextlib
import dataclasses
import random
import threading
import time

from conftest import Closed, VarlinkError

PYTHON = "/usr/bin/python3"
NAMES = 4                       # of each client
TRASH = 4                       # entries; with more it begins to remove for good
IN_PLACE = {"environment": {"SOURCE_DATE_EPOCH": "1700000000"}}


@dataclasses.dataclass(frozen=True)
class Environment:
    name: str
    id: str | None              # None: its answer never came
    pip: bool
    prompt: str | None
    site: bool
    mark: bytes | None = None   # what its user has put into it


@dataclasses.dataclass(frozen=True)
class State:
    live: dict                  # name -> Environment
    trash: tuple                # in the order of deletion


@dataclasses.dataclass
class Request:
    method: str
    parameters: dict
    after: object               # answer or None -> the State it leads to
    answer: dict | None = None

    @property
    def id(self):
        return self.parameters["requestId"]


def id_of(answer, *path):
    for key in ("environment", *path) if not path else path:
        answer = answer.get(key, {}) if answer else {}
    return answer.get("id") if answer else None


class Client:
    """One connection at a time, one request at a time."""

    def __init__(self, number, seed):
        self.number, self.random = number, random.Random(f"{seed}/{number}")
        self.names = [f"k{number}-{letter}" for letter in "abcdefgh"[:NAMES]]
        self.states, self.requests = [State({}, ())], []
        self.acknowledged = 0           # so many of the requests
        self.refused = []               # what was said instead of an answer, and when

    def begin(self, state):
        """Only the last state counts from now on."""
        self.states, self.requests, self.acknowledged = [state], [], 0

    # --- what can be asked for; each gives the method, its parameters and what comes of it ---

    def create(self, s):
        name = self.random.choice([n for n in self.names if n not in s.live])
        pip = self.random.random() < 0.3
        prompt, site = (f"p{self.random.randrange(10**6)}", True) if self.random.random() < 0.25 else (None, False)
        parameters = {"name": name, "python": PYTHON, "withoutPip": not pip, "systemSitePackages": site}
        if prompt:
            parameters["prompt"] = prompt
        if not pip and self.random.random() < 0.05:
            parameters["caller"] = IN_PLACE
        return "Create", parameters, lambda a: State(
            {**s.live, name: Environment(name, id_of(a), pip, prompt, site)}, s.trash)

    def delete(self, s):
        old = self.any_live(s)
        return "Delete", {"name": old.name}, lambda _: State(without(s.live, old.name), (*s.trash, old))

    def delete_now(self, s):
        old = self.any_live(s)
        return "Delete", {"name": old.name, "now": True}, lambda _: State(without(s.live, old.name), s.trash)

    def purge(self, s):
        name = self.random.choice([t.name for t in s.trash if t.name not in s.live])
        return "Delete", {"name": name, "now": True}, lambda _: State(
            s.live, tuple(t for t in s.trash if t.name != name))

    def restore(self, s):
        name = self.random.choice([t.name for t in s.trash if t.name not in s.live])
        old = [t for t in s.trash if t.name == name][-1]
        return "Restore", {"name": name}, lambda _: State({**s.live, name: old}, tuple(t for t in s.trash if t is not old))

    def restore_as(self, s):
        old = self.random.choice([t for t in s.trash if t.id and self.others(s, t.name)])
        name = self.random.choice(self.others(s, old.name))
        return "Restore", {"name": old.name, "id": old.id, "as": name}, lambda _: State(
            {**s.live, name: dataclasses.replace(old, name=name)}, tuple(t for t in s.trash if t is not old))

    def rename(self, s):
        old = self.any_live(s)
        name = self.random.choice([n for n in self.names if n not in s.live])
        return "Rename", {"name": old.name, "to": name}, lambda _: State(
            {**without(s.live, old.name), name: dataclasses.replace(old, name=name)}, s.trash)

    def clone(self, s):
        old = self.any_live(s)
        name = self.random.choice([n for n in self.names if n not in s.live])
        return "Clone", {"name": old.name, "to": name}, lambda a: State(
            {**s.live, name: dataclasses.replace(old, name=name, id=id_of(a))}, s.trash)

    def recreate(self, s):
        old = self.any_live(s)
        return "Recreate", {"name": old.name}, lambda a: State(
            {**s.live, old.name: dataclasses.replace(old, mark=None)},
            (*s.trash, dataclasses.replace(old, id=id_of(a, "previous"))))

    def others(self, s, name):
        return [n for n in self.names if n not in s.live and n != name]

    def any_live(self, s):
        return self.random.choice(list(s.live.values()))

    def next(self):
        s = self.states[-1]
        free = [n for n in self.names if n not in s.live]
        returning = [t for t in s.trash if t.name not in s.live]
        movable = [t for t in s.trash if t.id and self.others(s, t.name)]
        choices = [(self.create, 10 if free else 0), (self.delete, 4 if s.live else 0),
                   (self.delete_now, 1 if s.live else 0), (self.restore, 2 if returning else 0),
                   (self.restore_as, 1 if movable else 0), (self.rename, 2 if s.live and free else 0),
                   (self.clone, 2 if s.live and free else 0), (self.recreate, 1 if s.live else 0),
                   (self.purge, 12 if returning and len(s.trash) > TRASH else 0)]
        method, parameters, after = self.random.choices([c for c, _ in choices], [w for _, w in choices])[0](s)
        parameters["requestId"] = f"{self.number}-{self.random.getrandbits(64):016x}"
        return Request(method, parameters, after)

    # --- asking ---

    def ask(self, connection, request):
        # Its state first: whoever reads these lists meanwhile finds one for each request.
        self.states.append(request.after(None))
        self.requests.append(request)
        request.answer = connection.call(request.method, **request.parameters)
        self.states[-1] = request.after(request.answer)
        self.acknowledged = len(self.requests)

    def work(self, daemon, load):
        """Until the daemon is gone, or the load is over."""
        with contextlib.suppress(Closed, OSError), daemon.connect() as connection:
            while not load.over.is_set():
                request = self.next()
                try:
                    self.ask(connection, request)
                except VarlinkError as e:
                    # A refusal promises nothing once the power is off; that something was done does, whenever it is said.
                    if not load.cut_begun:
                        self.refused.append(f"{request.method} {request.parameters}: {e}")
                    return
                load.answered()


def without(live, name):
    return {n: e for n, e in live.items() if n != name}


class Load:
    """All clients at once, and the cuts: (after so many answers, so much later). The client that gets the last answer
    before one makes it: what is easily lost is what was acknowledged last."""

    def __init__(self, daemon, clients, cut, plan):
        self.clients, self.cut, self.plan = clients, cut, list(plan)
        self.cut_begun, self.over, self.done = False, threading.Event(), threading.Event()
        self.lock, self.running = threading.Lock(), len(clients)
        self.left, self.delay = self.plan.pop(0)
        self.threads = [threading.Thread(target=self.run, args=(daemon, c)) for c in clients]
        for thread in self.threads:
            thread.start()

    def run(self, daemon, client):
        client.work(daemon, self)
        with self.lock:
            self.running -= 1
            if self.running == 0:
                self.done.set()

    def answered(self):
        with self.lock:
            self.left -= 1
            if self.left != 0:
                return
        time.sleep(self.delay)          # a moment in the middle of something, not a wait for it
        if not self.plan:
            self.cut_begun = True
        self.cut()
        if self.plan:
            with self.lock:
                self.left, self.delay = self.plan.pop(0)
        else:
            self.over.set()
            self.done.set()

    def wait(self, deadline):
        """Whether it has come to its last cut, or all clients have ended."""
        return self.done.wait(deadline)

    def join(self):
        for thread in self.threads:
            thread.join()
