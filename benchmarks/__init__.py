"""What the system costs (`python -m benchmarks`), what its test is worth (`benchmarks.rebirth_study`) and how methods
compare (`benchmarks.study`). Results go to benchmarks/results.json and docs/; what may be thrown away to work/."""
