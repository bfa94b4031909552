"""Runs that might have been: a model of domains in the place of all models, and the bandit's own draws, test and rules.

`model` says what is known of the domains, `world` is what follows from it for many seeds at once, `forest` has the
trees of many runs in one, `engine` runs them side by side, `policies` are what is compared, `report` what is told.
`recorded` is the slow way to the same: the bandit service itself, its events, and a run's folder of them.
"""
