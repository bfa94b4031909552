"""The functional core: tree, draws, test, fold and decisions of DynaBranches (arXiv 2506.15721).

Pure: it knows no clock, file, network, protobuf or global randomness. Events are plain values to it, read by field
name; a decision is a body kind and its fields, by the names in proto/bohdi/v1/events.proto.
"""
