"""Processes that behave well or badly, for the supervisor's tests."""
