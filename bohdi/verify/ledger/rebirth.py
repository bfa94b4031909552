"""The sweep of a round's end, held to the windows that the tree had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bohdi.verify.ledger.account import Account
from bohdi.verify.ledger.envelope import Envelopes
from bohdi.verify.report import Kind
from bohdi_common.core.tree import ROOT
from bohdi_common.events import events_pb2 as pb


@dataclass(frozen=True)
class Rebirth:
    """Of one run."""

    account: Account
    envelopes: Envelopes

    def nodes_reborn(self, event: pb.Event, body: pb.NodesReborn) -> None:
        account = self.account
        if not self.envelopes.of_round(event, "nodes_reborn", body.based_on):
            return
        wrong = [what for reborn in body.rebirths for what in self._window(reborn)]
        for what in (*wrong, *self._sweep(body)):
            account.wrong(Kind.REBIRTH, what)
        if wrong:
            account.invalid += 1
            return
        for reborn in body.rebirths:
            arm = account.arms[reborn.node]
            arm.kept_wins, arm.kept, arm.wins, arm.losses = reborn.window_sum, account.arms.window, 0, 0
            arm.rebirths += 1
        account.introspected = True
        account.due_since = account.sequence + 1

    def _window(self, reborn: pb.Rebirth) -> Iterator[str]:
        """A node is reborn of its whole window. What is wrong here cannot be counted."""
        arms = self.account.arms
        if not ROOT < reborn.node < len(arms) or arms[reborn.node].is_unk:
            yield f"{reborn.node} is no node that can be reborn"
            return
        arm = arms[reborn.node]
        window = (arm.window.bit_count(), arms.window)
        if arm.seen < arms.window or (reborn.window_sum, reborn.window_length) != window:
            given = f"{reborn.window_sum} of {reborn.window_length}"
            yield f"node {reborn.node}: {given} in its window; the log has {window[0]} of {min(arm.seen, window[1])}"

    def _sweep(self, body: pb.NodesReborn) -> Iterator[str]:
        """What the sweep says of itself: how many nodes could be tested, and that those reborn passed."""
        arms, bandit = self.account.arms, self.account.settings.bandit
        needed = arms.window * (1 if bandit.introspection == pb.INTROSPECTION_PAPER else 2)
        tested = sum(not arm.is_unk and arm.level > 0 and arm.seen >= needed for arm in arms.all)
        nodes = {reborn.node for reborn in body.rebirths}
        if body.tested != tested or len(nodes) != len(body.rebirths):
            yield f"{body.tested} nodes tested; {tested} could be, of each at most one rebirth"
        for reborn in body.rebirths:
            if not (0 <= reborn.p_value <= bandit.threshold and reborn.statistic >= 0):
                yield f"node {reborn.node} reborn at p {reborn.p_value:g}, the test asks for less"
