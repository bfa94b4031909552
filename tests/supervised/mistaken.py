"""Says that it was told wrongly, and ends as a service does then."""

import sys

print("bohdi: BOHDI_X: not known: unset it", flush=True)
sys.exit(2)
