"""How large a record may be: one number each, for the registry, every log, every client and the broker of the tests."""

RECORD_BYTES_MAX = 4 * 1024 * 1024  # of a value
OVERHEAD_BYTES_MAX = 64 * 1024  # of key, headers and framing beside it
