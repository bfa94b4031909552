"""A real Kafka broker on this machine, for tests and for trying out. Not part of what is deployed."""
