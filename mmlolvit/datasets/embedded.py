"""Data sets that a config declares and that are built on first use, offline."""

from ..errors import UserError
from .digits import build_digits
from .partners import build_partners
from .scenes import build_scenes

BUILDERS = dict(digits=build_digits, partners=build_partners, scenes=build_scenes)


def ensure_embedded(cfg) -> None:
    """Build the set that a config asks for by `embedded_data = dict(type='digits', data_root=...)`.

    A config without this field is left alone, and so is a set that is already there. Raises
    UserError for an unknown type and when the folder cannot be written.
    """
    embedded = cfg.get('embedded_data')
    if embedded is None:
        return
    options = dict(embedded)
    kind = options.pop('type', None)
    if kind not in BUILDERS:
        raise UserError(f'embedded_data: type must be one of {tuple(BUILDERS)}, got {kind!r}')
    BUILDERS[kind](**options)
