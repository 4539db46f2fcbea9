"""A pool of workers at a queue, on a virtual clock: scaling as CloudWatch and ECS do it, and Spot that takes tasks away.

Promises: the same pool, load and seed give the same run; every message is answered, waiting, at hand or dead, and counted once.
Will not: know AWS's names. What is slow there is slow here: metrics of whole minutes that come late, alarms of three minutes on the
way out and fifteen on the way in, tasks that take a minute to start.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

MINUTE = 60.0
BUSY = 0.8
"""The share of its time that a task is to work."""
LEAST_CATCH_UP_S = 30.0
"""What waits is spread over half of the promised wait, and at least this."""
OUT_PERIODS, IN_PERIODS, IN_SHARE = 3, 15, 0.9
"""Of target tracking: red for so many minutes on the way out, below this share of the target for so many on the way in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Tasks at a queue. `rate`: messages a second of a busy task. `target`: of the load of a task, see `load`."""

    least: int
    most: int
    rate: float
    batch: int = 8
    target: float = 1.0
    catch_up_s: float = 60.0
    wait_s: float = 300.0
    in_cooldown_s: float = 300.0
    out_cooldown_s: float = 60.0
    start_s: float = 60.0
    late_s: float = 30.0
    """How long after its end a minute's metrics can be read."""
    visibility_s: float = 120.0
    receives: int = 5

    def load(self, sent: float, waiting: float, age_s: float, tasks: int) -> float:
        """What `design.pool` scales by: of a task what came in a minute at the share `BUSY`, and what waits spread over
        `catch_up_s`; or the age of the oldest message by the promised wait, where that is more."""
        work = sent / MINUTE / (self.rate * BUSY) + waiting / (self.rate * self.catch_up_s)
        return max(work / max(tasks, 1), age_s / self.wait_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Spot takes a share of the tasks at a time: with notice they finish what they have, without they just end."""

    at_s: float
    share: float
    notice: bool = True


@dataclass(slots=True, kw_only=True)
class PoolRun:
    """What happened. `waits`: seconds from a message's arrival to its answer. `counts`: (second, tasks wanted), each change."""

    sent: int = 0
    waits: list[float] = field(default_factory=list)
    dead: int = 0
    left: int = 0
    lost_tasks: int = 0
    twice: int = 0
    counts: list[tuple[float, int]] = field(default_factory=list)
    minutes: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each minute: messages that wait, tasks that run, tasks wanted."""
    first_sent_s: float | None = None
    first_task_s: float | None = None

    def wait(self, share: float) -> float:
        """The wait that this share of the answered messages is within."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan

    def reversals(self, since_s: float) -> int:
        """How often the number of tasks turned from more to fewer or back, from a second on."""
        steps = [after > before for (_, before), (at, after) in pairwise(self.counts) if at >= since_s]
        return sum(one is not other for one, other in pairwise(steps))


@dataclass(slots=True)
class _Message:
    arrived: float
    receipts: int = 0
    answered: bool = False


@dataclass(slots=True)
class _Task:
    ready: float
    hand: list[_Message] = field(default_factory=list)
    ending: bool = False
    gone: bool = False


class _Simulation:
    def __init__(self, pool: Pool, per_second: float, seed: int) -> None:
        self.pool, self.per_second, self.chance, self.run = pool, per_second, random.Random(seed), PoolRun()
        self.now, self.order = 0.0, 0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.queue: deque[_Message] = deque()
        self.tasks: list[_Task] = []
        self.wanted = pool.least
        self.loads: deque[float] = deque(maxlen=IN_PERIODS)
        self.sent = 0
        self.last_out = self.last_in = -math.inf
        self.run.counts.append((0.0, pool.least))
        self.fill(start_s=0.0)

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.events, (when, self.order, what))

    def fill(self, start_s: float) -> None:
        """What ECS does: starts tasks up to the number that is wanted, and ends the youngest beyond it."""
        living = [task for task in self.tasks if not task.ending]
        for _ in range(self.wanted - len(living)):
            task = _Task(self.now + start_s)
            self.tasks.append(task)
            self.at(task.ready, lambda task=task: self.begin(task))  # type: ignore[misc]
        for task in living[self.wanted :]:
            task.ending = True
            if not task.hand:
                self.end(task)

    def end(self, task: _Task) -> None:
        task.gone = task.ending = True
        self.tasks = [other for other in self.tasks if other is not task]

    def begin(self, task: _Task) -> None:
        """A task that has nothing at hand takes a batch, where there is one."""
        if task.gone or task.hand or self.now < task.ready:
            return
        if self.run.first_task_s is None:
            self.run.first_task_s = self.now
        if task.ending:
            self.end(task)
            return
        while self.queue and len(task.hand) < self.pool.batch:
            message = self.queue.popleft()
            message.receipts += 1
            if message.receipts > self.pool.receives:
                self.run.dead += 1
            else:
                task.hand.append(message)
        if task.hand:
            spent = len(task.hand) / self.pool.rate * self.chance.uniform(0.8, 1.2)
            self.at(self.now + spent, lambda: self.answer(task))

    def answer(self, task: _Task) -> None:
        if task.gone:
            return
        for message in task.hand:
            self.run.twice += message.answered
            if not message.answered:
                message.answered = True
                self.run.waits.append(self.now - message.arrived)
        task.hand = []
        self.begin(task)

    def second(self) -> None:
        """Messages of a second, by chance around what was asked for, to whichever tasks are free."""
        self.arrive(_poisson(self.chance, self.per_second))
        for task in list(self.tasks):
            self.begin(task)
        self.at(self.now + 1.0, self.second)

    def arrive(self, number: int) -> None:
        self.queue.extend(_Message(self.now) for _ in range(number))
        self.run.sent += number
        if number and self.run.first_sent_s is None:
            self.run.first_sent_s = self.now
        self.sent += number

    def minute(self) -> None:
        """Metrics of the minute that ends, read `late_s` later."""
        running = sum(task.ready <= self.now for task in self.tasks)
        age_s = self.now - self.queue[0].arrived if self.queue else 0.0
        load = self.pool.load(self.sent, len(self.queue), age_s, running)
        self.run.minutes.append((len(self.queue), running, self.wanted))
        waiting, self.sent = len(self.queue), 0
        self.at(self.now + self.pool.late_s, lambda: self.scale(load, waiting, running))
        self.at(self.now + MINUTE, self.minute)

    def scale(self, load: float, waiting: int, running: int) -> None:
        pool = self.pool
        self.loads.append(load / pool.target)
        wanted, recent = self.wanted, list(self.loads)
        if self.wanted == 0 and waiting >= 1:
            wanted = 1
        elif len(recent) >= OUT_PERIODS and min(recent[-OUT_PERIODS:]) > 1 and self.now >= self.last_out + pool.out_cooldown_s:
            wanted = max(wanted, math.ceil(max(running, 1) * recent[-1]))
        elif len(recent) == IN_PERIODS and max(recent) < IN_SHARE and self.now >= self.last_in + pool.in_cooldown_s:
            wanted = min(wanted, math.ceil(running * max(recent[-OUT_PERIODS:])))
        wanted = max(pool.least, min(pool.most, wanted))
        if wanted != self.wanted:
            self.last_out, self.last_in = (self.now, self.last_in) if wanted > self.wanted else (self.last_out, self.now)
            self.wanted = wanted
            self.run.counts.append((self.now, wanted))
            self.fill(pool.start_s)

    def lose(self, loss: Loss) -> None:
        """Spot takes tasks back; ECS starts others in their place."""
        living = [task for task in self.tasks if not task.ending]
        for task in living[: math.ceil(loss.share * len(living))]:
            self.run.lost_tasks += 1
            task.ending = True
            if not task.hand:
                self.end(task)
            elif not loss.notice:
                self.at(self.now + self.pool.visibility_s, lambda hand=task.hand: self.queue.extend(hand))  # type: ignore[misc]
                self.end(task)
        self.fill(self.pool.start_s)


def _poisson(chance: random.Random, expected: float) -> int:
    """A number of events where so many are expected: Knuth's way, in portions that do not underflow."""
    number = 0
    while expected > 0:
        portion, expected = min(expected, 30.0), expected - 30.0
        product, least = chance.random(), math.exp(-portion)
        while product > least:
            number += 1
            product *= chance.random()
    return number


def simulate_pool(
    pool: Pool, per_second: float, until_s: float, *, backlog: int = 0, losses: tuple[Loss, ...] = (), seed: int = 0
) -> PoolRun:
    """Messages come by chance, so many a second, and `backlog` at once at the beginning."""
    simulation = _Simulation(pool, per_second, seed)
    for loss in losses:
        simulation.at(loss.at_s, lambda loss=loss: simulation.lose(loss))  # type: ignore[misc]
    simulation.arrive(backlog)
    simulation.at(0.0, simulation.second)
    simulation.at(MINUTE, simulation.minute)
    while simulation.events and simulation.events[0][0] <= until_s:
        simulation.now, _, what = heapq.heappop(simulation.events)
        what()
    run = simulation.run
    run.left = run.sent - len(run.waits) - run.dead
    return run
