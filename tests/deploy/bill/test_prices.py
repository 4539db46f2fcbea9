from __future__ import annotations

import re

from mlpack.deploy.bill.prices import PRICES
from mlpack.deploy.bill.total import FREE, PRICED
from mlpack.deploy.graph import endpoints, functions, machines, roles, stores, tasks, watching
from mlpack.deploy.graph.values import Node


def test_every_price_has_a_source_and_a_month() -> None:
    for name, price in PRICES.items():
        assert price.usd > 0, name
        assert price.source.startswith("https://"), name
        assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", price.read), name
        assert price.unit, name


def test_every_kind_of_node_has_a_price_or_a_reason() -> None:
    rooms = (endpoints, functions, machines, roles, stores, tasks, watching)
    kinds = {
        thing
        for room in rooms
        for thing in vars(room).values()
        if isinstance(thing, type) and issubclass(thing, Node) and thing is not Node
    }
    assert kinds == PRICED.keys() | FREE.keys()
    assert not PRICED.keys() & FREE.keys()
