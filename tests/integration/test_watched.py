"""A run on Kafka under a real Prometheus: the dashboards show it, and alerts fire by the faults they are for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from bohdi.run_folder import resolved
from bohdi_common.runtime import config as configs
from devbroker.broker import Broker
from tests import scripted
from tests.monitoring.show import results, watched, without_data

DEMO = Path("configs/demo.yaml")
RUN_S = 150.0
SOON_S = 90.0


async def test_every_panel_has_data_and_three_alerts_fire_by_their_faults(own_broker: Broker, tmp_path: Path) -> None:
    away = tmp_path / "away"
    config = resolved(configs.load(DEMO, scripted.small() | PRICED), DEMO.parent)
    environment = {scripted.AWAY: str(away), scripted.LATENCY: "0.05"}
    async with watched(own_broker, tmp_path, "tests.scripted.{}", environment) as here:
        await here.begin("one", config, seed=0)
        await here.until('bohdi_run_promotions_total{run="one"} > 0', RUN_S)
        await here.until('sum by (service) (bohdi_consumer_lag_events{service="bandit"}) >= 0', SOON_S)
        await here.until("absent(bohdi_run_events_total)", RUN_S)  # the series of a run that is over are gone
        with suppress(TimeoutError):  # the next line says what is still lacking
            await here.has_data(SOON_S)
        assert without_data(results(here.prometheus)) == []
        await here.fires("BohdiDeadLetters", here.send_garbage, SOON_S)

        async def models_leave() -> None:
            away.touch()
            await here.begin("other", config, seed=1)

        await here.fires("BohdiModelErrors", models_leave, SOON_S)
        await here.fires("BohdiBanditAbsent", here.end_bandit, SOON_S)


PRICED = {"budget": {"tokens": 5_000_000, "hours": 10.0}}
