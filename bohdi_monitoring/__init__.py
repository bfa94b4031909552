"""Dashboards as code: what is on them (`panels.py`) and how Grafana wants it (`grafana.py`). Nothing deployed uses it:
`make dashboards` writes k8s/monitoring/dashboards/, and a test holds those files to this code."""
