# SPDX-License-Identifier: MIT
"""The reference model: what a root ought to hold, and what an operation ought to make of it.

Owns no file and knows no daemon. A World is never changed: an operation gives another one, so that "it has happened" and
"it has not" can stand side by side until somebody has looked.

It is written from what is promised (the interface's description, ARCHITECTURE.md), not from the daemon's code: one
dictionary of names, one list of what is in the trash, one set of what no row should have.
"""
import dataclasses
from dataclasses import dataclass, field

DAY = 24 * 3600 * 10**6     # the daemon's microseconds
JUST_NOW = 1 << 62
WEEK = 7 * DAY


NAMES = ("a", "b", "c", "d")


def turns(name, to):
    """All pairs of names, these first."""
    def cycle(first):
        return NAMES[NAMES.index(first):] + NAMES[:NAMES.index(first)]
    return [(one, other) for one in cycle(name) for other in cycle(to)]


@dataclass(frozen=True)
class Env:
    """One environment. `label` is its own for ever; `mark` is what a file of ours in its tree says."""
    label: str
    name: str
    state: str = "ready"            # ready, missing, foreign
    origin: str = "created"
    protected: bool = False
    place: str | None = None        # its directory's name, if that is outside the root
    inner: str | None = None        # which name the paths in its files have; None: they have none
    mark: str | None = None
    asked: bool = False             # what it was asked for with is known, so that it can be made anew without a guess
    fake: bool = False              # by an interpreter that makes next to nothing
    broken: bool = False            # it may be listed as such, and is as soon as it was looked at
    id: str | None = None           # None: nobody has told yet
    deleted_at: int | None = None
    missing_since: int = 0

    def but(self, **changes):
        return dataclasses.replace(self, **changes)

    def waits(self):
        """Whether its directory is known again when it comes back, whoever has its name by then."""
        return self.state == "missing" and self.place is None and self.id is not None


@dataclass(frozen=True)
class Op:
    """One call."""
    method: str
    parameters: dict
    label: str = ""                 # of what it makes
    request: str | None = None

    def wire(self):
        """Its parameters as they are sent; what begins with an underscore is the model's own."""
        sent = {k: v for k, v in self.parameters.items() if v is not None and not k.startswith("_")}
        return sent | ({"requestId": self.request} if self.request else {})


@dataclass(frozen=True)
class World:
    live: dict = field(default_factory=dict)        # name -> Env
    trash: tuple = ()
    nameless: tuple = ()                            # missing, and the name is another one's: they may come back
    litter: frozenset = frozenset()                 # names in the root that are no environments
    orphans: frozenset = frozenset()                # places outside with an environment that no row has

    def but(self, **changes):
        return dataclasses.replace(self, **changes)

    def short(self):
        """For a person."""
        live = [f"{e.name}={e.label}:{e.state}{'!' * e.protected}{'@' + e.place if e.place else ''}" for e in self.live.values()]
        return " ".join([*live, "trash", *(f"{t.name}={t.label}" for t in self.trash), *self.litter,
                         *(f"nameless={e.label}" for e in self.nameless)])

    def put(self, *envs, drop=()):
        """Who is missing under the name of one of these waits without a name."""
        live = {n: e for n, e in self.live.items() if n not in drop}
        after = live | {e.name: e for e in envs}
        ids = {e.id for e in after.values()}
        waiting = (*self.nameless, *(live[e.name] for e in envs if e.name in live and live[e.name].waits()))
        return self.but(live=after, nameless=tuple(e for e in waiting if e.id is None or e.id not in ids))

    def give_way(self, name):
        """Another one is to have it."""
        env = self.live.get(name)
        if env is None:
            return self
        left = self.put(drop=[name])
        return left.but(nameless=(*left.nameless, env)) if env.waits() else left

    def taken(self, name):
        env = self.live.get(name)
        return env is not None and env.state != "missing"

    def placed(self, place):
        return next((e for e in self.live.values() if e.place == place), None)

    def occupied(self, place):
        return place in self.orphans or self.placed(place) is not None

    def directory(self, name):
        """Whether the root has something of this name."""
        env = self.live.get(name)
        return name in self.litter or (env is not None and env.state != "missing" and env.place is None)

    # --- what calls make of it: the answers that are right, and the world afterwards ---

    def apply(self, op):
        return getattr(self, "_" + op.method.lower())(op, **op.parameters)

    def _refuse(self, *errors):
        return set(errors), self

    def _blocked(self, name):
        """Something else is there."""
        return {"AlreadyExists", "Failed"}, self

    def _create(self, op, name, path=None, _place=None, **_):
        owner = self.placed(_place) if _place else None
        if (owner and owner.name != name) or self.taken(name):
            return self._refuse("AlreadyExists")
        if _place is None and name in self.litter:
            return self._blocked(name)
        made = Env(op.label, name, place=_place, inner=None if _place else name, asked=True, fake=_place is not None)
        return {"done"}, self.put(made)

    def _adopt(self, op, name, path, _place):
        if self.placed(_place) or self.taken(name):
            return self._refuse("AlreadyExists")
        if _place not in self.orphans:
            return self._refuse("Unsupported")
        made = Env(op.label, name, origin="adopted", place=_place, mark=None)
        return {"done"}, self.put(made).but(orphans=self.orphans - {_place})

    def _delete(self, op, name, now=False):
        env = self.live.get(name)
        if env is None and now and any(t.name == name for t in self.trash):
            return {"done"}, self.but(trash=tuple(t for t in self.trash if t.name != name))
        if env is None:
            return self._refuse("NoSuchEnvironment")
        if env.state == "foreign":
            return self._refuse("Unsupported")
        if env.protected:
            return self._refuse("Protected")
        left = self.put(drop=[name])
        if now or env.state == "missing":
            return {"done"}, left
        return {"done"}, left.but(trash=(*self.trash, env.but(deleted_at=None)))

    def last_deleted(self, name, id=None):
        """Whose time has not been seen yet was deleted a moment ago."""
        fits = [t for t in self.trash if t.name == name and id in (None, t.id)]
        return max(fits, key=lambda t: JUST_NOW if t.deleted_at is None else t.deleted_at, default=None)

    def _restore(self, op, name, id=None, **other):
        to = other.get("as") or name
        env = self.last_deleted(name, id)
        if env is None:
            return self._refuse("NotInTrash")
        if to != name and env.place is not None:
            return self._refuse("Unsupported")
        if self.taken(to):
            return self._refuse("AlreadyExists")
        if env.place is not None and self.placed(env.place):
            return self._refuse("AlreadyExists", "Failed")
        if env.place in self.orphans or (env.place is None and to in self.litter):
            return self._blocked(to)
        back = env.but(name=to, deleted_at=None, inner=to if env.inner == name else env.inner)
        return {"done"}, self.put(back).but(trash=tuple(t for t in self.trash if t is not env))

    def _unmovable(self, name):
        env = self.live.get(name)
        if env is None:
            return "NoSuchEnvironment"
        return "Unsupported" if env.state in ("foreign", "missing") else None

    def _rename(self, op, name, to):
        if wrong := self._unmovable(name):
            return self._refuse(wrong)
        if self.taken(to):
            return self._refuse("AlreadyExists")
        env = self.live[name]
        if env.place is None and to in self.litter:
            return self._blocked(to)
        inner = to if env.inner == name and env.place is None else env.inner
        return {"done"}, self.put(env.but(name=to, inner=inner), drop=[name])

    def _clone(self, op, name, to):
        if wrong := self._unmovable(name):
            return self._refuse(wrong)
        if self.taken(to):
            return self._refuse("AlreadyExists")
        if to in self.litter:
            return self._blocked(to)
        env = self.live[name]
        inner = to if env.inner == name and env.place is None else env.inner
        return {"done"}, self.put(env.but(label=op.label, name=to, id=None, origin="created", protected=False, place=None,
                                          inner=inner))

    def _recreate(self, op, name):
        env = self.live.get(name)
        if env is None:
            return self._refuse("NoSuchEnvironment")
        if env.state == "foreign":
            return self._refuse("Unsupported")
        if env.protected:
            return self._refuse("Protected")
        if env.state == "missing" and name in self.litter:
            return self._refuse("AlreadyExists", "Failed")
        new = env.but(label=op.label, state="ready", origin="created", inner=None if env.fake or env.place else name, mark=None,
                      broken=False, asked=True)
        old = () if env.state == "missing" else (env.but(id=None, deleted_at=None),)
        return {"done"}, self.put(new).but(trash=(*self.trash, *old))

    def _protect(self, op, name, protected):
        env = self.live.get(name)
        if env is None:
            return self._refuse("NoSuchEnvironment")
        if env.state == "foreign":
            return self._refuse("Unsupported")
        return {"done"}, self.put(env.but(protected=protected))

    def _emptytrash(self, op):
        return {"done"}, self.but(trash=())

    def without_missing(self, op):
        """Who wants a name whose directory is gone lets go of what is known of that one, whatever comes of it."""
        name = op.parameters.get("to") or op.parameters.get("as") or op.parameters.get("name")
        env = self.live.get(name)
        wants = op.method in ("Create", "Adopt", "Restore", "Rename", "Clone")
        if not env or env.state != "missing":
            return []
        return [self.give_way(name)] if wants else [self.put(drop=[name])] if op.method == "Recreate" else []

    # --- what is done by hand ---

    def gone(self, name, now):
        """The directory of that name is not there any more."""
        env = self.live.get(name)
        if name in self.litter:
            return self.but(litter=self.litter - {name})
        if env.state == "foreign":
            return self.put(drop=[name])
        return self.put(env.but(state="missing", missing_since=now))

    def unseen(self, before, now):
        """What came and went while nobody looked was never there; what was there before it is missing. What came in the place
        of one that has gone is that one, made anew."""
        names = {e.label: n for n, e in before.live.items()}
        waiting = {e.label for e in before.nameless}
        world = self.put(drop=[n for n, e in self.live.items() if e.state == "missing" and names.get(e.label) != n])
        left, found = {e.label for e in world.live.values()}, []
        for name, had in before.live.items():
            env = world.live.get(name)
            if had.label in left or had.state == "foreign":
                continue
            if env is None:     # under the name that it had, wherever it was moved before it went
                found.append(had if had.state == "missing" else had.but(state="missing", missing_since=now))
            elif had.state == env.state == "ready" and env.label not in names and env.label not in waiting:
                found.append(env.but(id=had.id, protected=had.protected))
        # One that was carried away and came back is what it was, though something else had its name meanwhile.
        known = {e.label: e for e in before.live.values()}
        found += [known[e.label].but(name=n, state="ready") for n, e in world.live.items()
                  if e.state == "ready" and e.id is None and e.label in known]
        return world.put(*found)

    def come(self, env, name):
        """This directory is there now: one whose row is known has its name from now on; another one is adopted."""
        known = next((e for e in (*self.live.values(), *self.nameless) if e.label == env.label and e.state == "missing"), None)
        if known is None:
            return self.put(env.but(name=name, origin="adopted", protected=False, id=None, state="ready", asked=False))
        left = self.but(nameless=tuple(e for e in self.nameless if e is not known),
                        live={n: e for n, e in self.live.items() if e is not known})
        return left.put(known.but(name=name, state="ready"))

    # --- time ---

    def due(self, now):
        """What the trash lets go of by then."""
        return self.but(trash=tuple(t for t in self.trash if t.deleted_at is None or t.deleted_at + WEEK > now))

    def started(self, now):
        """What a start makes of it."""
        forgotten = [e.name for e in self.live.values() if e.state == "missing" and e.missing_since + WEEK < now]
        return self.put(drop=forgotten).but(nameless=tuple(e for e in self.nameless if e.missing_since + WEEK >= now)).due(now)
