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


def hide_secrets(node, secret: bool = False):
    """A node of a config without texts under keys that are secret, and without logins of URLs.

    Dicts are changed in place.
    """
    if isinstance(node, str):
        return HIDDEN if secret else LOGIN.sub(f'://{HIDDEN}@', node)
    if isinstance(node, list | tuple):
        return type(node)(hide_secrets(item, secret) for item in node)
    if isinstance(node, dict):
        for key, value in list(node.items()):
            named = isinstance(key, str) and SECRET.search(key)
            node[key] = hide_secrets(value, secret or bool(named))
    return node
