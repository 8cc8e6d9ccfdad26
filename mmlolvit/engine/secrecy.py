"""Names of what is secret, which no log, record or checkpoint is to have."""

import re

SECRET = re.compile(
    r'(^|_)(token|secret|passw(or)?d|credentials?|(api|access|secret|private)_?key)$', re.IGNORECASE
)
LOGIN = re.compile(r'://[^/@\s]+@')  # of a URL
HIDDEN = '...'


def hide_argument(argument: str) -> str:
    """A `key=value` without its value, if its key says that it is secret, or a URL's login."""
    key, equals, _ = argument.partition('=')
    if equals and SECRET.search(key.rpartition('.')[2]):
        return f'{key}={HIDDEN}'
    return LOGIN.sub(f'://{HIDDEN}@', argument)


def hide_secrets(node: dict | list) -> None:
    """Replace, in a config, texts whose key says that they are secret, and logins of URLs."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        if isinstance(value, dict | list):
            hide_secrets(value)
        elif isinstance(value, str):
            secret = isinstance(key, str) and SECRET.search(key)
            node[key] = HIDDEN if secret else LOGIN.sub(f'://{HIDDEN}@', value)
