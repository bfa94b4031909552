"""A real Prometheus before real processes: every panel's query, and alerts by the faults they are for.

`vllm-1.prom` and `vllm-2.prom` are scrapes of two real vLLM servers (0.32, SmolLM2-135M on a CPU), one that has just
begun and one at work, less what no panel asks for: served one after the other they stand for one server.
"""
