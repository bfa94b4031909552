"""The five services."""

import os
import signal

# The first process of a container: the kernel keeps from it every signal that it has no handler for, so that a pod
# which is deleted while its service starts, or waits for a broker, would be there until its grace period is over. A
# host puts its own handler in the place of this one.
if os.getpid() == 1:
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
