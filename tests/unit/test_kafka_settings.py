"""How to reach Kafka is told by the environment, checked whole, and no text gives a secret away."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from bohdi_common.log.kafka_settings import BadSetting, KafkaSettings

SECRET = "s3cret-of-the-test"
HERE = "127.0.0.1:9092"


def settings(**variables: str) -> KafkaSettings:
    told = {f"BOHDI_KAFKA{'_' if name else ''}{name}": value for name, value in variables.items()}
    return KafkaSettings.from_environment(environment=told)


def test_an_address_is_enough_and_a_command_line_goes_before_the_environment() -> None:
    told = {"BOHDI_KAFKA": HERE}
    assert KafkaSettings.from_environment(environment=told).for_aiokafka()["bootstrap_servers"] == [HERE]
    assert KafkaSettings.from_environment("kafka-1:9,kafka-2:9", told).bootstrap == "kafka-1:9,kafka-2:9"


def test_no_address_says_how_to_give_one() -> None:
    with pytest.raises(BadSetting, match=r"give --kafka HOST:PORT, or set BOHDI_KAFKA"):
        KafkaSettings.from_environment(environment={})


@pytest.mark.parametrize("address", ["foo", "foo:", ":9092", "foo:0", "foo:70000", "foo:1,", "a b:1", "http://a:1"])
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(BadSetting, match=r"BOHDI_KAFKA: not HOST:PORT"):
        settings(**{"": address})


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"SECURITY": "ssl"}, r"BOHDI_KAFKA_SECURITY: not known: 'ssl': set it to one of plaintext, tls, sasl_tls"),
        ({"MECHANISM": "GSSAPI"}, r"BOHDI_KAFKA_MECHANISM: not known: 'GSSAPI'"),
        ({"SECURITY": "tls", "CA": "/nowhere.pem"}, r"BOHDI_KAFKA_CA: no such file: '/nowhere.pem'"),
        ({"SECURITY": "sasl_tls", "USER": "me"}, r"set BOHDI_KAFKA_USER, and BOHDI_KAFKA_PASSWORD or"),
        ({"USER": "me", "PASSWORD": SECRET}, r"BOHDI_KAFKA_SECURITY is plaintext, and yet a user"),
        ({"PASSWORD_FILE": "/nowhere"}, r"BOHDI_KAFKA_PASSWORD_FILE: no such file"),
        ({"PASSWORD": SECRET, "PASSWORD_FILE": __file__}, r"are both set: unset one"),
        ({"SECURITY": "tls", "KEY": __file__}, r"BOHDI_KAFKA_CERTIFICATE and BOHDI_KAFKA_KEY belong together"),
        ({"SECURITY": "tls", "CA": __file__}, r"no PEM files that fit"),
    ],
)
def test_a_mistake_is_one_line_with_variable_and_mend_and_without_the_secret(
    variables: dict[str, str], told: str
) -> None:
    with pytest.raises(BadSetting, match=told) as raised:
        settings(**{"": HERE}, **variables)
    assert SECRET not in str(raised.value) and "\n" not in str(raised.value)


def test_a_password_comes_from_a_file_without_its_line_end_and_stands_in_no_text(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    told = settings(**{"": HERE}, SECURITY="sasl_tls", USER="me", PASSWORD_FILE=str(file))
    assert told.for_aiokafka()["sasl_plain_password"] == told.for_kafka_python()["sasl_plain_password"] == SECRET
    assert SECRET not in repr(told) and SECRET not in str(told) and SECRET not in repr(asdict(told))
    assert SECRET not in repr(told.for_faust()["broker_credentials"])
