"""The seeded simulation of the whole system; README.md says what it simulates and how a seed is replayed."""
