"""What a storm is made of: several lanes of faults beside each other, each with dice of its own, all from one seed."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

Blow = Callable[[float], Awaitable[None]]
"""One fault: begins, lasts so many seconds of plain waiting, and is over when it returns."""

USUAL_BLOW: Final = 0.9
LONGEST_BREATH: Final = 2.0
LONGEST_BLOW: Final = 3.0
"""Seconds; a blow that is noticed by keepalive (1 s here) must be able to last longer than twice that."""


class Storm:
    """Blows in lanes. What was blown when is in `story`, to be read where something went wrong."""

    def __init__(self, seed: str, lanes: dict[str, Sequence[Blow]]) -> None:
        """The blows of one lane never overlap, those of different lanes do."""
        self.story: list[str] = []
        self._seed = seed
        self._lanes = lanes

    async def rage(self, seconds: float) -> None:
        """For so long; every blow that has begun is ended."""
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as tasks:
            for name, blows in self._lanes.items():
                tasks.create_task(self._play(name, blows, end))

    async def _play(self, name: str, blows: Sequence[Blow], end: float) -> None:
        dice, clock = random.Random(f"{self._seed} {name}"), asyncio.get_running_loop().time
        while True:
            breath, blow = dice.uniform(0.1, LONGEST_BREATH), dice.choice(blows)
            length = min(dice.expovariate(1 / USUAL_BLOW), LONGEST_BLOW)
            if clock() + breath + length > end:
                return
            await asyncio.sleep(breath)
            self.story.append(f"{end - clock():5.2f} s before the end: {name}: {blow.__name__} for {length:.2f} s")
            await blow(length)
