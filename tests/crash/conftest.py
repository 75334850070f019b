"""Servers that are made to fail."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crash.shim import Shim, build_shim
from crash.site import CrashSite


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def shim(shim_library: Path, tmp_path: Path) -> Shim:
    return Shim(shim_library, tmp_path / "control")


@pytest.fixture
async def site(tmp_path: Path, shim: Shim) -> AsyncIterator[CrashSite]:
    site = CrashSite(tmp_path, environment=shim.environment)
    yield site
    await site.kill()
