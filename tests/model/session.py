# SPDX-License-Identifier: MIT
"""One run of steps: each is done to the daemon and to the model, and the two are compared after it.

A step is a name and plain values: what it means follows from the world it meets, so that any step can be left out of a list
of them (model.py shrinks so), and a list of steps is a file. Where it is not known whether something has happened, both
worlds are kept until the next look; the one that is there is gone on with.
"""
import contextlib
import os
import signal
import threading

from hands import Hands
from house import KILL_AFTER, KILL_BEFORE
from real import MARK, PYTHON, Violation
from wire import fake_environment
from world import DAY, NAMES, Op, World, turns

PLACES = ("p", "q")
KINDS = ("create", "create", "recreate", "delete", "delete", "purge", "restore", "restore", "restore_as", "rename", "rename",
         "clone", "create_elsewhere", "adopt", "protect", "unprotect", "unprotect", "empty")
DELTAS = tuple(sign * hours * DAY // 24 for sign in (1, -1) for hours in (1, 25, 8 * 24, 400 * 24))
REFUSED = {"NoSpace", "Failed"}         # what may be said when a worker is killed or the disk is full, and nothing is done
LEAVING = "it is being removed for good"        # said of what is in the trash's list no more, while its files go
# The row that says of an answered rename or restore that it is over follows the answer; of a directory that is carried away in
# between nobody knows its name any more.
TAKING = {"remove", "replace", "carry"}
RETURNING = {"move", "swap"}    # and of one that gets its old name again, whether it ever had the new one
FOLLOWED = {"move", "swap", "back"}     # what is done by hand and gives a row another name, as a Rename does
REQUESTS = 24                           # as many calls are remembered here
# About as many calls that change something does one take that is not refused.
REACH = {"create": 30, "create_elsewhere": 18, "recreate": 45, "delete": 12, "purge": 40, "restore": 8, "restore_as": 44,
         "rename": 44, "clone": 60, "adopt": 6, "protect": 6, "unprotect": 6, "empty": 45}


class Request:
    """A call with a request id, and whether it is known to have been done."""

    def __init__(self, op, env_id, at, lasting):
        self.op, self.env_id, self.at, self.lasting = op, env_id, at, lasting


class Session:
    def __init__(self, house):
        self.house = house
        self.hands = Hands(house)
        self.world = World()
        self.requests = []
        self.number = 0
        self.soft = set()           # labels of what was adopted, and whose row may not be on the disk yet
        self.fresh = set()          # methods of what was done last, whose rows may not say so yet
        self.taken = False          # and a directory was taken away
        self.gone = set()           # labels of what was carried away, and whose row has gone, if that is on the disk yet
        self.full_disk = False
        self.counts = {}

    def run(self, step, values):
        self.number += 1
        getattr(self, step)(**values)
        self.count(step)

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- calls ---

    def op(self, kind, name, to, id, apt=False):
        """The call that is meant; None where it would take seconds or is nobody's promise. An apt one has the next names
        with which it is not refused, if there are such."""
        for one, other in turns(name, to) if apt else ():
            op, world = self._op(kind, one, other, id)
            if op and "done" in world.apply(op)[0]:
                name, to = one, other
                break
        op, world = self._op(kind, name, to, id)
        if world is not self.world:
            fake_environment(self.house.out, op.parameters["_place"])
            self.world = world
        for place in PLACES:        # who was killed before the row of what is made there leaves an empty directory
            if not world.occupied(place):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(self.house.out / place)
        return op

    def _op(self, kind, name, to, id):
        """The same with just these names, and the world in which it is asked."""
        label = f"{kind}{self.number}"
        request = f"r{self.number}-{self.house.top.name}" if id else None
        place = PLACES[NAMES.index(to) % len(PLACES)]
        path = str(self.house.out / place)
        if kind == "recreate":
            env = self.world.live.get(name)
            if env and not env.asked and (env.broken or env.state == "missing"):
                return None, self.world
        if kind == "create_elsewhere" and place in self.world.orphans:
            return None, self.world
        world, one = self.world, self.world.last_deleted(name)
        if kind == "adopt" and not world.occupied(place) and not os.path.exists(path):
            world = world.but(orphans=world.orphans | {place})
        method, parameters = {
            "create": ("Create", {"name": name, "python": PYTHON, "withoutPip": True}),
            "create_elsewhere": ("Create", {"name": name, "path": path, "_place": place, "python": self.house.python,
                                            "withoutPip": True}),
            "recreate": ("Recreate", {"name": name}),
            "delete": ("Delete", {"name": name}),
            "purge": ("Delete", {"name": name, "now": True}),
            "restore": ("Restore", {"name": name, "id": self._oldest(name) if id else None}),
            "restore_as": ("Restore", {"name": name, "id": one.id if one and id else None, "as": to}),
            "rename": ("Rename", {"name": name, "to": to}),
            "clone": ("Clone", {"name": name, "to": to}),
            "adopt": ("Adopt", {"name": name, "path": path, "_place": place}),
            "protect": ("Protect", {"name": name, "protected": True}),
            "unprotect": ("Protect", {"name": name, "protected": False}),
            "empty": ("EmptyTrash", {}),
        }[kind]
        return Op(method, parameters, label, request if method != "EmptyTrash" else None), world

    def _oldest(self, name):
        fits = [t for t in self.world.trash if t.name == name]
        return min(fits, key=lambda t: t.deleted_at or 0).id if fits else None

    def _named(self, world, op, reply):
        """The world with what the answer says of ids, and of when it was deleted: the clock may have been set back."""
        row, previous = reply.get("environment"), reply.get("previous")
        if row and op.method == "Delete":
            return world.but(trash=tuple(t.but(deleted_at=row.get("deletedAt")) if t.id == row["id"] else t for t in world.trash))
        if not row:
            return world
        env = world.live.get(row["name"])
        if env is None or env.id not in (None, row["id"]):
            raise Violation(f"{op.method} {op.wire()} answers {row}, where {env} should be")
        world = world.put(env.but(id=row["id"]))
        if previous:
            world = world.but(trash=tuple(t.but(id=previous["id"]) if t.id is None else t for t in world.trash))
        return world

    def _after(self, world, op, answer, reply, tolerant=False):
        """The worlds that this answer allows, the likeliest first."""
        right, after = world.apply(op)
        if answer is None and "done" in right:
            return [world, after, *world.without_missing(op)]
        if answer == "done" and answer in right:
            return [self._named(after, op, reply)]
        if answer is None or answer in right:
            self.taken = self.taken or after is not world       # a row has gone, and nobody waits for that
            return [world, after] if answer is None or tolerant else [after]
        if answer in REFUSED and (tolerant or self.full_disk):
            return [world, *world.without_missing(op)]
        if answer == "Busy" and right in ({"NotInTrash"}, {"NoSuchEnvironment"}) and reply.get("reason") == LEAVING:
            return [world]
        raise Violation(f"{op.method} {op.wire()} is answered {answer} {reply}, should be {sorted(right)}; {world}")

    def _partly(self, op, answer):
        """An emptying goes one by one, and promises no more; what is left of the trash is then what it is."""
        several = op.method == "EmptyTrash" or (op.method == "Delete" and op.parameters.get("now"))
        if answer == "done" or not several:
            return
        left = {t["id"] for t in self.house.rows("ListTrash")}
        gone = [t for t in self.world.trash if t.id not in left]
        if all(op.method == "EmptyTrash" or t.name == op.parameters["name"] for t in gone):
            self.world = self.world.but(trash=tuple(t for t in self.world.trash if t.id in left))

    def _ids(self, world=None):
        return {e.id for e in (*(world or self.world).live.values(), *(world or self.world).trash)}

    def _used(self, world, before):
        """What has come by hand is none of those that were there before."""
        labels = {e.label for e in before.live.values()}
        return {(e.label, i) for e in world.live.values() if e.label not in labels for i in self._ids(before)}

    def _settle(self, worlds, patient=False, used=()):
        """Which of these worlds came true; the number of it."""
        self.world, chosen = self.house.settle(worlds, patient, used)
        for env in self.world.live.values():
            if env.state == "ready" and env.mark != env.label:
                with open(os.path.join(self.house.tree(env), MARK), "w") as file:
                    file.write(env.label)
                self.world = self.world.put(env.but(mark=env.label))
        return next(i for i, w in enumerate(worlds) if w is chosen)

    def _remember(self, op, row):
        if op.request and row:
            self.requests = [*self.requests[1 - REQUESTS:], Request(op, row["id"], self.house.now(), not self.full_disk)]

    def call(self, kind, name, to, id, apt=False):
        op = self.op(kind, name, to, id, apt)
        if op is None:
            return
        answer, reply = self.house.ask(op)
        if answer is None:
            raise Violation(f"{op.method} {op.wire()} has no answer: {self.house.daemon.log()[-800:]}")
        self._partly(op, answer) if self.full_disk else None
        self._settle(self._after(self.world, op, answer, reply))
        self.count(f"{kind}: {answer}")
        if answer == "done":
            self._done(op, reply)

    def _done(self, op, reply):
        if op.method != "EmptyTrash":
            self.soft = set()       # what nobody waits for goes along with what somebody does
            self.taken, self.fresh, self.gone = False, set(), set()
        self.fresh = self.fresh | {op.method}
        row = reply.get("environment") or ({"id": ""} if op.method == "Delete" else None)
        self._remember(op, row)

    def repeat(self, which, other):
        """A call that was done, once more under its id: the same answer, and nothing happens. With other words: refused."""
        if not self.requests:
            return
        request = self.requests[which % len(self.requests)]
        op, again = request.op, request.op.wire()
        if other:
            again = again | {"name": "zz"}
        answer, reply = self.house.ask(Op(op.method, again))
        right = "InvalidParameter" if other else "done"
        if not other and op.method != "Delete" and request.env_id not in self._ids():
            right = "NoSuchEnvironment"
        if answer != right or (answer == "done" and op.method != "Delete" and reply["environment"]["id"] != request.env_id):
            raise Violation(f"{op.method} {again}, done before, is answered {answer} {reply}, should be {right}")
        self._settle([self.world])
        self.count(f"repeat: {answer}")

    def ask(self, name):
        """One row, and the prompt of it, without a list."""
        for method in ("Get", "Prompt"):
            answer, reply = self.house.ask(Op(method, {"name": name}))
            env = self.world.live.get(name)
            if answer != ("done" if env else "NoSuchEnvironment"):
                raise Violation(f"{method} {name} is answered {answer} {reply}, where {env} should be")
            state = (reply.get("environment") or reply).get("state")
            if env and state not in ({env.state, "broken"} if env.broken else {env.state}):
                raise Violation(f"{method} {name} says {state}, where {env} should be")

    # --- several at once, and nobody who hears ---

    def pair(self, one, other):
        """Two calls at the same time: as if one had come after the other, or one of them hears that it is too early."""
        ops = [self.op(*one), self.op(*other)]
        if None in ops or (ops[0].method == "Create" and ops[0].parameters.get("_place") in self.world.orphans):
            return
        ops[1] = Op(ops[1].method, ops[1].parameters, ops[1].label + "'", ops[1].request and ops[1].request + "'")
        second = self.house.daemon.connect()
        try:
            self.house.connection.send(ops[0].method, ops[0].wire())
            second.send(ops[1].method, ops[1].wire())
            answers = [self._receive(self.house.connection), self._receive(second)]
        finally:
            second.close()
        worlds = [w for order in ((0, 1), (1, 0)) for w in self._orders([(ops[i], *answers[i]) for i in order])]
        if ops[0].parameters.get("now") and ops[0].parameters == ops[1].parameters and {a for a, _ in answers} == {"done"}:
            worlds += self._orders([(ops[0], *answers[0])])     # in the trash: both hear that it is removed
        if not worlds:
            raise Violation(f"{[(o.method, o.wire(), a) for o, a in zip(ops, answers, strict=True)]} fits no order of the "
                            f"two; {self.world}")
        self._settle([*worlds, *self._busy_in_the_trash(ops, worlds)])
        for op, (answer, reply) in zip(ops, answers, strict=True):
            self.count(f"at once: {answer}")
            if answer == "done":
                self._done(op, reply)

    def _busy_in_the_trash(self, ops, worlds):
        """Who empties the trash leaves what somebody is busy with, and that may go back there."""
        names = {op.parameters["name"] for op in ops if op.method == "Restore"}
        if not names or not any(op.method == "EmptyTrash" or op.parameters.get("now") for op in ops):
            return []
        return [w.but(trash=(*w.trash, t)) for w in worlds for t in self.world.trash if t.name in names and t not in w.trash]

    def _receive(self, connection):
        reply = connection.receive()
        if "error" in reply:
            return reply["error"].rsplit(".", 1)[1], reply["parameters"]
        return "done", reply["parameters"]

    def _orders(self, steps):
        worlds = [self.world]
        for op, answer, reply in steps:
            if answer == "Busy" or (answer == "AlreadyExists" and reply.get("state") in ("creating", "missing")):
                continue        # it has met the other one, which may have come to nothing
            following = []
            for world in worlds:
                try:
                    following += self._after(world, op, answer, reply)
                except Violation:
                    pass
            worlds = following
        return worlds

    def same(self, kind, name, to, apt=False):
        """One call with one id on two connections: done once, and both hear of it."""
        op = self.op(kind, name, to, True, apt)
        if op is None or op.request is None:
            return
        second = self.house.daemon.connect()
        try:
            for connection in (self.house.connection, second):
                connection.send(op.method, op.wire())
            answers = [self._receive(self.house.connection), self._receive(second)]
        finally:
            second.close()
        answer, reply = answers[0]
        self._settle(self._after(self.world, op, answer, reply))
        if answers[1][0] != answer and not (answer != "done" and answers[1][0] != "done"):
            raise Violation(f"{op.method} {op.wire()} twice at once is answered {answers}")
        if answer == "done":
            self._done(op, reply)

    def drop(self, kind, name, to, id, apt=False):
        """Nobody waits for the answer. With an id it is done all the same."""
        op = self.op(kind, name, to, id, apt)
        if op is None:
            return
        connection = self.house.daemon.connect()
        self.house.ask(Op("Status", {}), connection)        # it is served, so what it says next comes before what we say
        connection.send(op.method, op.wire())
        connection.close()
        self.fresh = self.fresh | {op.method}
        self.house.barrier()
        worlds = self._after(self.world, op, None, None)
        # Only what makes something is given up without its caller; what has an id never.
        kept = op.request or op.method in ("Delete", "Restore", "Protect", "EmptyTrash") and not op.parameters.get("as")
        if kept and not self.full_disk:
            worlds = worlds[1:2] or worlds
        self._partly(op, None) if self.full_disk else None
        chosen = self._settle(worlds, True)
        self._remember_if(op, worlds, chosen)

    def _remember_if(self, op, worlds, chosen):
        """A call whose answer nobody has heard: what came of it is seen, unless it changes nothing that can be seen."""
        if not op.request or len(worlds) < 2 or chosen != 1 or worlds[0] == worlds[1] or "done" not in worlds[0].apply(op)[0]:
            return      # of one that was sure to be done, the next call with its id would tell no more
        if op.method == "Delete":
            self._remember(op, {"id": ""})
            return
        to = op.parameters.get("to") or op.parameters.get("as") or op.parameters["name"]
        if to in self.world.live:
            self._remember(op, {"id": self.world.live[to].id})

    # --- ends and beginnings ---

    def _softened(self, world):
        """What was only seen, a moment ago, may have to be seen again: then it has another id, or is missing from now on."""
        now = self.house.now()
        first = world.but(live={n: e.but(id=None) if e.label in self.soft and e.state != "missing" else e
                                for n, e in world.live.items()},
                          nameless=tuple(e.but(id=None) if e.label in self.soft else e for e in world.nameless))
        return [first, first.but(live={n: e.but(missing_since=now) if e.label in self.soft and e.state == "missing" else e
                                       for n, e in first.live.items()})]

    def _seen(self, before, kind=None):
        """What has come or gone by hand since then is soft, until somebody has waited for a commit."""
        if kind in FOLLOWED:
            self.fresh = self.fresh | {"Rename"}
        known = {(e.label, e.state) for e in before.live.values()}
        self.soft |= {e.label for e in self.world.live.values() if (e.label, e.state) not in known}
        self.gone |= {e.label for e in before.live.values()} & self.hands.away.keys() - {
            e.label for e in (*self.world.live.values(), *self.world.nameless)}

    def _begin(self, worlds, used=(), orderly=False):
        """Another daemon; whichever of these worlds it finds."""
        if not orderly:
            worlds = [w for world in worlds for w in self._softened(world)]
        else:
            self.soft = set()
        self.requests = [r for r in self.requests if r.lasting]     # a full disk remembers nothing
        worlds = [w.started(self.house.now()) for w in worlds]
        self.fresh = {"Restore"}
        self.house.again()
        self.house.quiet()
        chosen = self._settle(worlds, True, used)
        self.house.whole(self.world)
        return chosen if orderly else chosen // 2

    def restart(self, how, hands):
        """It ends, things are done by hand, it begins."""
        self.full(False)
        self.house.idle()
        self.house.leaks()
        if how != "term":
            self._taken({hand[0] for hand in hands})
        self.house.hang_up()
        self.house.terminate() if how == "term" else self.house.kill(workers=how == "all")
        before = self.world
        for i, hand in enumerate(hands):
            self.world = self.hands.do(self.world, f"{hand[0]}{self.number}.{i}", *hand) or self.world
        known, now = [before], self.house.now()
        soft = [e for e in before.live.values() if e.label in self.soft and e.state == "missing"]
        if soft and how != "term":      # that they are may not have been written
            known.append(before.put(*(e.but(state="ready") for e in soft)))
        self._begin([self.world.unseen(b, now) for b in known], self._used(self.world, before), how == "term")
        self._seen(before)

    def crash(self, op, at, after, both):
        """Somebody is killed at this call to the kernel: a worker, or the daemon, or both."""
        self.full(False)
        kind, house = op[0], self.house
        op = self.op(*op)
        if op is None:
            return
        self._taken()
        house.arm(1 + (at - 1) % REACH[kind], KILL_AFTER if after else KILL_BEFORE, 0, both)
        answer, reply = house.ask(op)
        fired = house.state.fired
        house.disarm()
        fired = fired or house.state.fired
        deadly = fired and (both or fired == house.daemon.pid)
        if answer is None and not deadly:
            raise Violation(f"{op.method} {op.wire()} has no answer: {house.daemon.log()[-800:]}")
        if deadly and house.dead(wait=house.patience) is None:
            raise Violation("the killed one lives")
        self.count("killed: daemon" if deadly else "killed: worker" if fired else "killed: nobody")
        worlds = self._after(self.world, op, answer, reply, tolerant=bool(fired))
        if deadly:
            self._crashed(op, answer, worlds)
        else:
            if answer != "done":
                house.barrier()
                self._partly(op, answer)
                worlds = [self.world, *self.world.without_missing(op)]
            self._settle(worlds, answer != "done")
        if answer == "done":
            self._done(op, reply)
        self.count(f"{kind}, killed: {answer}")

    def _crashed(self, op, answer, worlds):
        if op.method == "EmptyTrash" or op.parameters.get("now"):
            before = self.world
            self.house.again()
            self.house.quiet()
            self._partly(op, answer)
            found = [w for world in (self.world, *(w for w in worlds if w is not before)) for w in self._softened(world)]
            self._settle([w.started(self.house.now()) for w in found], True)
            self.requests = [r for r in self.requests if r.lasting]
            self.house.whole(self.world)
            return
        self._remember_if(op, worlds, self._begin(worlds))

    def term(self, op):
        """SIGTERM while a call is under way: done, or not at all."""
        self.full(False)
        op = self.op(*op)
        if op is None or op.method == "EmptyTrash" or op.parameters.get("now"):
            return
        house = self.house
        house.connection.send(op.method, op.wire())
        os.kill(house.daemon.pid, signal.SIGTERM)
        try:
            answer, reply = self._receive(house.connection)
        except Exception as e:      # closed, or reset: no answer
            if isinstance(e, TimeoutError):
                raise Violation("no answer and no end") from e
            answer, reply = None, None
        house.hang_up()
        house.terminate()
        if answer in ("ShuttingDown", "Cancelled"):
            answer = None
        worlds = self._after(self.world, op, answer, reply)
        chosen = self._begin(worlds, orderly=True)
        self.count(f"ended: {answer}")
        if answer == "done":
            self._done(op, reply)
        else:
            self._remember_if(op, worlds, chosen)

    def _taken(self, hands=()):
        """Before a kill: the rows that nobody waits for, where they will be missed."""
        if self.taken or self.gone or self._takes(hands) or self._moves_what_was_made_anew(hands):
            self._tick(("Create", "purge"))

    def _moves_what_was_made_anew(self, hands):
        """That one made anew by hand is the one before, protected as that, is known by its name until its row is written."""
        return FOLLOWED & set(hands) and any(e.protected and e.label in self.soft for e in self.world.live.values())

    def _takes(self, hands):
        return self.fresh and (TAKING & set(hands) or (RETURNING & set(hands) and self.fresh & {"Rename", "Restore"}))

    def worker(self):
        """The resident worker is killed while nothing is under way."""
        self.house.kill_worker()

    # --- what is around it ---

    def hand(self, kind, name, to, apt=False):
        after = self.hands.do(self.world, f"{kind}{self.number}", kind, name, to, apt)
        if after is not None:
            self.taken = self.taken or self._takes([kind])
            before = self.world
            self.count(f"by hand: {kind}")
            self._settle(self._either(after), True, self._used(after, before))
            self._seen(before, kind)

    def _either(self, after):
        if self.hands.anew is None:
            return [after]
        # Who wants to create it waits for the look at it.
        name = self.hands.name
        answer, reply = self.house.ask(Op("Create", {"name": name, "python": PYTHON, "withoutPip": True}))
        if answer != "AlreadyExists":
            raise Violation(f"Create '{name}', which is there, is answered {answer} {reply}")
        return [after, self.hands.anew]

    def hand_and_call(self, hand, op):
        """Something by hand, and at the same time a call that has to do with other names."""
        call = self.op(*op)
        back = {e.name for e in self.world.live.values() if hand[0] == "back" and e.label in self.hands.away}
        if call is None or {*hand[1:3], *back} & {call.parameters.get(key) for key in ("name", "to", "as")}:
            return
        result = []
        thread = threading.Thread(target=lambda: result.append(self.house.ask(call)))
        thread.start()
        after = self.hands.do(self.world, f"{hand[0]}{self.number}", *hand)
        self.taken = self.taken or self._takes([hand[0]])
        thread.join()
        answer, reply = result[0]
        before = self.world
        used = self._used(after, before) if after else ()
        self._partly(call, answer) if self.full_disk else None
        found = self._either(after) if after else [self.world]
        self._settle([w for world in found for w in self._after(world, call, answer, reply)], True, used)
        if answer == "done":
            self._done(call, reply)
        self._seen(before, hand[0])

    def remove_and_create(self, name):
        """rm -rf, and a moment later the same name again: there is no moment in between in which it exists already."""
        gone = self.hands.do(self.world, "", "remove", name, name)
        if gone is None:
            return
        op = self.op("create", name, name, False)
        answer, reply = self.house.ask(op)
        self._settle(self._after(gone, op, answer, reply), True)
        if answer == "done":
            self._done(op, reply)

    def full(self, on):
        """Nothing that takes room succeeds any more; or it does again, at once, and the catalog catches up."""
        if on == self.full_disk:
            return
        self.house.idle()
        self.house.state.full = self.full_disk = on
        if not on:
            self._tick(("Create", "purge"))

    def clock(self, by, restart):
        """The wall clock is set."""
        house = self.house
        house.state.clock_us += by
        now = house.now()
        # Whether one came to nothing when somebody was killed is told from its time and that of the last delete, or recreate.
        self.requests = [r for r in self.requests if r.at <= now < r.at + DAY]
        if restart:
            self.restart("kill", [])
            return
        if self.world.due(now) == self.world:
            return
        self.full(False)
        self._tick(("Create", "Delete", "purge"))       # it looks at its clock when something comes into the trash
        house.quiet()
        self._settle([self.world.due(now)], True)

    def _tick(self, methods):
        """An environment that comes and goes."""
        for method in methods:
            more = {"python": PYTHON, "withoutPip": True} if method == "Create" else {"now": True} if method == "purge" else {}
            answer, reply = self.house.ask(Op("Delete" if method == "purge" else method, {"name": "tick", **more}))
            if answer != "done":
                raise Violation(f"{method} tick is answered {answer} {reply}")
        self.taken, self.fresh, self.gone = False, set(), set()

    def finish(self):
        """The end of a run: all of it once more, and nobody stays."""
        self.full(False)
        self.restart("all", [])
        self.restart("term", [])
        self.house.leaks()
        log = self.house.daemon.log()
        for word in ("Sanitizer", "runtime error", "Assertion", "built wrong"):
            if word in log:
                raise Violation(log[-2000:])
        self.house.hang_up()
        self.house.terminate()
