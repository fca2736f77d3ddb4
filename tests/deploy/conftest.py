"""Libraries are built once for all tests of this folder."""

from __future__ import annotations

import pytest
from made_bundles import Maker


@pytest.fixture(scope="session")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("libraries"))
