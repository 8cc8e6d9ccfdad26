"""Names of what is secret, which no log, record or checkpoint is to have."""

import logging
import re
from contextlib import suppress

# Of names in snake case, each by its end. `pass` alone, and `key`, say something else too often.
SECRET = re.compile(
    r"""(secrets?|passw(or)?ds?|pass(phrase|code)s?|pwd|credentials?|cookies?|bearer|signature
    |authorization|conn(ection)?_?str(ing)?|(?P<token>tokens?)
    |(api|access|secret|private|account|auth|encryption|signing|subscription|license|ssh)_?key
        s?(_?ids?)?
    |(db|database|user|admin|root|smtp|mail|ftp|http|proxy|sql|postgres|redis|mongo)_?pass
    |(^|_)(sig|(o|http|basic)?auth)
    )(_?\d+)?$""",
    re.VERBOSE,
)
OF_MODELS = re.compile(  # tokens that are counted, or parts of a sequence
    r"""^(num|n|max|min)(_\w+_|_)?tokens?
    |(^|_)(cls|class|dist|distill|masks?|pad|bos|eos|sos|sot|eot|eoc|sep|unk|start|end|first|last
        |img|im|image|patch|text|word|sub|visual|query|prompt|register|reg|special|extra)_?tokens?
    """,
    re.VERBOSE,
)
COUNT = re.compile(r'-?\d{1,6}(\.\d*)?')
HUMP = re.compile(r'(?<=[a-z0-9])(?=[A-Z])')  # of camel case
SETTING = re.compile(r'(?:--)?[\w.-]+')
# Up to the last @: passwords that should have been quoted hold @ and /. A port is none.
LOGIN = re.compile(r'://(?:[^\s/?#:@]*:(?!\d{1,5}(?:/|\s|$))\S*|[^\s/?#]*)@')
QUERY = re.compile(r'([?&#])([\w.-]+)=[^\s&#\'"]+')
HIDDEN = '...'


def is_secret(name: str, value='') -> bool:
    """Whether the name of a setting, a header or a part of a URL's query says that it is secret.

    Parts of a model are named by their last part, and short numbers count tokens.
    """
    name = HUMP.sub('_', name.rpartition('.')[2].lstrip('-')).replace('-', '_').lower()
    found = SECRET.search(name)
    counts = OF_MODELS.search(name) or COUNT.fullmatch(str(value))
    return bool(found) and not (found['token'] and counts)


def hide_urls(text: str) -> str:
    """A text without the logins of its URLs, and without what is secret in their queries."""
    text = LOGIN.sub(f'://{HIDDEN}@', text)
    return QUERY.sub(
        lambda found: f'{found[1]}{found[2]}={HIDDEN}' if is_secret(found[2]) else found[0], text
    )


def hide_argument(argument: str) -> str:
    """An argument without the value of a setting that is secret, and without what a URL hides."""
    name, equals, value = argument.partition('=')
    if not equals or not SETTING.fullmatch(name):
        return hide_urls(argument)
    if any(is_secret(part, value) for part in name.split('.')) and value.lower() not in (
        'true',
        'false',
        'none',
    ):
        return f'{name}={HIDDEN}'
    return f'{name}={hide_argument(value)}'  # of --cfg-options=key=value


def hide_secrets(node, secret: bool = False):
    """A node of a config without what is under keys that are secret, and with URLs as `hide_urls`.

    Dicts are changed in place.
    """
    if secret and isinstance(node, str | int | float) and not isinstance(node, bool):
        return HIDDEN
    if isinstance(node, str):
        return hide_urls(node)
    if isinstance(node, list | tuple):
        return type(node)(hide_secrets(item, secret) for item in node)
    if isinstance(node, dict):
        for key, value in list(node.items()):
            node[key] = hide_secrets(
                value, secret or (isinstance(key, str) and is_secret(key, value))
            )
    return node


def hide_in_log(record: logging.LogRecord) -> bool:
    """A logger's filter, for the checkpoints that MMEngine names."""
    with suppress(TypeError, ValueError):  # of arguments that do not fit, which the handler tells
        record.msg, record.args = hide_urls(record.getMessage()), None
    return True
