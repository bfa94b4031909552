"""Asks a recorded run: python examples/ask_the_log.py runs/demo (after `make demo`). It needs no model and no GPU."""

import sys
from collections import Counter

from bohdi import open_run

run = open_run(sys.argv[1])

# A moment: a run sequence, the end of a round, or a time.
start, end = run.state("round:0"), run.state()
print(f"{run.run_id}: {start.target_version} -> {end.target_version} in {end.sequence} events")

# Tables are pyarrow's: .to_pandas() where pandas is there.
weakest = run.nodes().sort_by([("mean", "descending")]).slice(0, 3).to_pylist()
for node in weakest:
    print(f"weak: {' > '.join(node['path'])}, lambda {node['mean']:.2f} after {node['rewards']} rewards")

harvests = run.harvests()
won = Counter(row["best"] for row in harvests.to_pylist() if row["took_effect"])
print("wins:", ", ".join(f"{model} {count}" for model, count in won.most_common()))

# The same outcomes under other settings: what would have been reborn?
asked = run.what_if(["bandit.introspection=two_sample"], ["bandit.threshold=0,0.05,0.2"])
for variant in asked["variants"]:
    print(f"threshold {variant['given']['bandit.threshold']}: {variant['rebirths']} rebirths")
