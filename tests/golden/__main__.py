"""`python -m tests.golden SCENARIO [OUT]`: play a scenario in process, write the capture, print a verdict."""

import json
import sys
import time
from pathlib import Path

from simulators.reconcile import reconcile
from tests.golden.player import ROOT, Player


def main() -> int:
    scenario = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "simulators" / "scenarios" / "demo.yaml"
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "var" / "golden.jsonl"
    started = time.monotonic()
    player = Player(scenario)
    capture = player.play()
    elapsed = time.monotonic() - started
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(json.dumps(message, ensure_ascii=False) + "\n" for message in capture), encoding="utf-8")
    events = [message["payload"] for message in capture if "/evt/" in message["topic"]]
    wrong = [row for row in reconcile(player.line.ledger(), [{**m, "retain": False} for m in capture]) if not row.equal]
    for row in wrong:
        sys.stdout.write(f"{row}\n")
    verdict = f"{len(events)} events in {elapsed:.1f} s, {len(wrong)} figures wrong"
    sys.stdout.write(f"{player.scenario.name}: {verdict}; capture in {out}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
