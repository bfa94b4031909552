"""Whole runs over a real broker, the services as processes of their own."""
