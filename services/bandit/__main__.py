"""The bandit as a process on Kafka."""

from bohdi_common.runtime.service_main import run_manager
from services.bandit.snapshots import Snapshots

if __name__ == "__main__":
    run_manager("bandit", Snapshots)
