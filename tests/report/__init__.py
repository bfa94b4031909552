"""The report as a reader has it: opened in a real browser."""
