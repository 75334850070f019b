import pytest
from pydantic import ValidationError

from shadow.settings import ShadowSettings


def test_defaults_are_the_quotas_of_the_service() -> None:
    settings = ShadowSettings()
    assert settings.document_size_maximum == 8192
    assert settings.depth_maximum == 8
    assert settings.client_token_size_maximum == 64
    assert settings.in_flight_maximum == 10
    assert settings.tombstone_hours == 48
    assert settings.requests_per_second_maximum == 20
    assert not settings.drop_delta


@pytest.mark.parametrize(
    "values",
    [
        {"resend_first_s": 10, "resend_maximum_s": 9},
        {"journal_versions": -1},
        {"depth": 8},
        {"depth_maximum": 0},
        {"document_size_maximum": 100, "request_size_maximum": 99},
    ],
)
def test_a_wrong_key_or_value_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ShadowSettings.model_validate(values)
