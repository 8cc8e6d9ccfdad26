import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def new_default_scope():
    """MMEngine names scopes by config and second, so that two quick runs could share one."""
    DefaultScope._instance_dict.clear()
