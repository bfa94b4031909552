"""Tree expansion as a process on Kafka."""

from bohdi_common.runtime.service_main import run_worker
from services.tree_expansion.handler import CAPACITY, TreeExpansion

if __name__ == "__main__":
    run_worker("tree_expansion", TreeExpansion.topic, CAPACITY, lambda around: TreeExpansion(around.models))
