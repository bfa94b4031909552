"""Questions to a recorded run: what it was at any moment, what changed, what other settings would have made of it.

Pure functions over a run's events and states. `kept_states` alone touches files; `opened` is the library's front.
"""
