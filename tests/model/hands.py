# SPDX-License-Identifier: MIT
"""What people do to a root by hand, and what ought to become of the rows.

Each function does it on the disk and gives the world afterwards; None: it cannot be done here, and nothing was done.
"""
import os
import shutil

from real import MARK, write_tree
from world import Env, turns

HALF = ("bin", "lib")       # what an interrupted `mkdir -p` leaves: no environment


def _free(world, name):
    """Nothing has this name in the root, nor has a row of one elsewhere."""
    env = world.live.get(name)
    return not world.directory(name) and (env is None or env.place is None)


def _tree(world, name):
    """The environment whose directory this is."""
    env = world.live.get(name)
    return env if env and env.state == "ready" and env.place is None else None


class Hands:
    """Owns what was carried out of the root: label -> the environment that it was."""

    def __init__(self, house):
        self.house = house
        self.away = {}
        self.anew = None        # the other world that the last thing done may have led to
        self.name = None        # to which it was done

    def do(self, world, label, kind, name, to, apt=False):
        """With these names; with apt, or with the next ones with which it can be done."""
        self.anew = after = None
        for self.name, other in turns(name, to) if apt else [(name, to)]:
            if after := getattr(self, kind)(world, self.name, other, label):
                break
        return after

    def _at(self, name):
        return self.house.root / name

    def _sign(self, path, label):
        with open(os.path.join(path, MARK), "w") as file:
            file.write(label)

    def plant(self, world, name, _to, label):
        """python -m venv."""
        if not _free(world, name):
            return None
        write_tree(self._at(name), self.house.reference.of(name))
        self._sign(self._at(name), label)
        return world.come(Env(label, name, inner=name, mark=label), name)

    def remove(self, world, name, _to, _label):
        """rm -rf."""
        if not world.directory(name):
            return None
        path = self._at(name)
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
        return world.gone(name, self.house.now())

    def replace(self, world, name, to, label):
        """rm -rf and python -m venv, at once. Who has not seen the end of the first takes it for the same one made anew."""
        env = _tree(world, name)
        if not env:
            return None
        new = self.plant(self.remove(world, name, to, label), name, to, label)
        self.anew = world.put(env.but(label=label, mark=label, origin="adopted", inner=name, asked=False, fake=False,
                                      broken=False))
        return new

    def move(self, world, name, to, _label):
        if not world.directory(name) or not _free(world, to) or name in world.litter:
            return None
        os.rename(self._at(name), self._at(to))
        return world.put(world.live[name].but(name=to), drop=[name])

    def swap(self, world, name, to, _label):
        one, other = _tree(world, name), _tree(world, to)
        if not one or not other or name == to:
            return None
        os.rename(self._at(name), self.house.away / "swap")
        os.rename(self._at(to), self._at(name))
        os.rename(self.house.away / "swap", self._at(to))
        return world.put(one.but(name=to), other.but(name=name))

    def carry(self, world, name, _to, _label):
        """Out of the root."""
        env = _tree(world, name)
        if not env or env.label in self.away:
            return None
        os.rename(self._at(name), self.house.away / env.label)
        self.away[env.label] = env
        return world.gone(name, self.house.now())

    def back(self, world, name, _to, _label):
        """And in again, perhaps under another name."""
        if not self.away or not _free(world, name):
            return None
        label = min(self.away)
        os.rename(self.house.away / label, self._at(name))
        return world.come(self.away.pop(label), name)

    def copy(self, world, name, to, label):
        """cp -a."""
        env = _tree(world, name)
        if not env or not _free(world, to):
            return None
        shutil.copytree(self._at(name), self._at(to), symlinks=True)
        return world.come(env.but(label=label), to)

    def link(self, world, name, _to, label):
        if not _free(world, name):
            return None
        os.symlink(self.house.away, self._at(name))
        return world.put(Env(label, name, state="foreign", origin="adopted"))

    def touch(self, world, name, _to, _label):
        if not _tree(world, name):
            return None
        os.utime(self._at(name))
        self._at(name).joinpath("a file").touch()
        self._at(name).joinpath("a file").unlink()
        return world

    def half(self, world, name, _to, _label):
        """What is no environment yet."""
        if name in world.live or not _free(world, name):
            return None
        for directory in HALF:
            os.makedirs(self._at(name) / directory)
        return world.but(litter=world.litter | {name})

    def complete(self, world, name, _to, label):
        """It becomes one, and comes back into the root as such."""
        if name not in world.litter or name in world.live:
            return None
        whole = self.house.away / "whole"
        os.rename(self._at(name), whole)
        shutil.rmtree(whole)
        return self.plant(world.but(litter=world.litter - {name}), name, None, label)

    def damage(self, world, name, _to, _label):
        """Its python goes. Of an adopted one nobody knows then what to make it with again."""
        env = _tree(world, name)
        if not env or env.inner is None or env.broken or not env.asked:
            return None
        os.unlink(self._at(name) / "bin/python")
        return world.put(env.but(broken=True))


KINDS = ("plant", "remove", "replace", "move", "move", "swap", "carry", "back", "copy", "link", "touch", "half", "complete",
         "damage")
