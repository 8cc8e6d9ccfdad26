import pytest
from mmengine.registry import DefaultScope

from .helpers import threads


@pytest.fixture(autouse=True)
def new_default_scope():
    """MMEngine keeps that of the run before, by which it would build what a test asks for."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module')
def one_thread():
    """As fast as more on small images, and the same sums here and in a tool of its own."""
    with threads(1):
        yield
