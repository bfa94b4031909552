"""`bohdi doctor`: what a run of a configuration would meet on this machine, looked at before it begins.

A family of checks a file: folders, prompts in their contexts, servers, memory and disk, speed, and the forecast of the
run. `examination` puts them in their order.
"""
