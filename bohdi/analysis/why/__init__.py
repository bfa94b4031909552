"""Provenance: where a training sample, a domain or a version of the target came from. Pure, over the run's events.

`events` everywhere gives the run's events in their order, from the start, each time it is called; what is told is plain
values, ready for JSON. Models' words in it are as the models said them.
"""

from bohdi.analysis.why.node import node
from bohdi.analysis.why.sample import sample
from bohdi.analysis.why.version import version

__all__ = ["node", "sample", "version"]
