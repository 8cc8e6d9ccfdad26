"""Names of what is secret, which no log, record or checkpoint is to have."""

import re

SECRET = re.compile(
    r'(^|_)(token|secret|passw(or)?d|credentials?|(api|access|secret|private)_?key)$', re.IGNORECASE
)
FLAG = re.compile(r'--[\w-]+=')  # with its value in one argument
LOGIN = re.compile(r'://[^/@\s]+@')  # of a URL
HIDDEN = '...'


def hide_argument(argument: str) -> str:
    """A `key=value` without its value, if its key says that it is secret, or a URL's login."""
    flag = found.group() if (found := FLAG.match(argument)) else ''
    key, equals, _ = argument.removeprefix(flag).partition('=')
    if equals and SECRET.search(key.rpartition('.')[2]):
        return f'{flag}{key}={HIDDEN}'
    return LOGIN.sub(f'://{HIDDEN}@', argument)


def hide_secrets(node, secret: bool = False):
    """A node of a config without what is under keys that are secret, and without logins of URLs.

    Dicts are changed in place.
    """
    if secret and isinstance(node, str | int | float) and not isinstance(node, bool):
        return HIDDEN
    if isinstance(node, str):
        return LOGIN.sub(f'://{HIDDEN}@', node)
    if isinstance(node, list | tuple):
        return type(node)(hide_secrets(item, secret) for item in node)
    if isinstance(node, dict):
        for key, value in list(node.items()):
            named = isinstance(key, str) and SECRET.search(key)
            node[key] = hide_secrets(value, secret or bool(named))
    return node
