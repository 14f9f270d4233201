"""One running page for all tests of the folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.ui.running import Page, Viewer, running_page


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with running_page(tmp_path_factory.mktemp("ui")) as here:
        yield here


@pytest_asyncio.fixture
async def viewer(page: Page) -> AsyncIterator[Viewer]:
    """Somebody who has signed in with a key of role `operate`."""
    async with Viewer(page) as one:
        await one.sign_in()
        yield one


@pytest_asyncio.fixture
async def stranger(page: Page) -> AsyncIterator[Viewer]:
    async with Viewer(page) as one:
        yield one
