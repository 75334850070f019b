"""What every test gets: hypothesis profiles.

`ci` is the default; `make soak` uses `soak`. Neither has a deadline: a busy machine is no defect.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci", max_examples=100, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("soak", settings.get_profile("ci"), max_examples=5000)
settings.load_profile("ci")
