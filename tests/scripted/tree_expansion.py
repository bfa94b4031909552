"""`services.tree_expansion` on scripted models."""

from bohdi_common.runtime.service_main import run_worker
from services.tree_expansion.handler import CAPACITY, TreeExpansion
from tests.scripted import Scripted

if __name__ == "__main__":
    run_worker(
        "tree_expansion", TreeExpansion.topic, CAPACITY, lambda around: TreeExpansion(around.models), models=Scripted
    )
