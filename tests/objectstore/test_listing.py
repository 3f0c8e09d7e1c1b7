"""Lists of objects, without a server."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed

from pynats_twisted.objectstore.info import ObjectInfo
from pynats_twisted.objectstore.watch import ObjectListing
from tests.jetstream.scripted import ScriptedTestCase


class Watched:
    """What a watcher hands out, at once."""

    def __init__(self, *items: ObjectInfo | None) -> None:
        self.items = deque(items)
        self.stops = 0

    def next(self) -> Deferred[ObjectInfo | None]:
        return succeed(self.items.popleft())

    def stop(self) -> Deferred[None]:
        self.stops += 1
        return succeed(None)


class ListingTests(ScriptedTestCase):
    """ObjectListing."""

    def listed(self, *items: ObjectInfo, **options: Any) -> tuple[list[ObjectInfo], Watched]:
        watched = Watched(*items, None)
        listing = ObjectListing(self.js, "OBJ_B", "B", **options)
        self.patch(listing, "_watcher", watched)
        return self.successResultOf(listing.collect()), watched

    def test_each_once(self) -> None:
        """An object that is changed or deleted while the list is read comes as it was when it came first."""
        one, other = ObjectInfo(name="a", bucket="B", revision=1), ObjectInfo(name="b", bucket="B", revision=2)
        found, watched = self.listed(one, replace(one, revision=3), other, replace(one, deleted=True, revision=4))
        self.assertEqual(found, [one, other])
        self.assertGreaterEqual(watched.stops, 1)

    def test_deleted_and_made_anew(self) -> None:
        """One that was deleted when it came first is not there, whatever is made of its name meanwhile; asked for, it comes once."""
        gone = ObjectInfo(name="a", bucket="B", deleted=True)
        again = replace(gone, deleted=False)
        self.assertEqual(self.listed(gone, again)[0], [])
        self.assertEqual(self.listed(gone, again, show_deleted=True)[0], [gone])
